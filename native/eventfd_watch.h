// Eventfds on the event loop of an environment, where a signal becomes a call of a JavaScript
// function, and those that native code passes on.
#pragma once

#include <napi.h>

namespace node_kvm {

// watchEventFd(file, callback): number, refEventFd(number, 0 | 1), unwatchEventFd(number);
// relayEventFd(source, target): number, endEventFdRelay(number).
void add_eventfd_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
