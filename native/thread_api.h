// What JavaScript asks of a vCPU's thread once it runs.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_thread_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
