// Eventfds on the event loop of an environment: a signal becomes a call of a JavaScript function.
#pragma once

#include <napi.h>

namespace node_kvm {

// watchEventFd(file, callback): number, refEventFd(number, 0 | 1), unwatchEventFd(number).
void add_eventfd_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
