// TAPs and the threads that serve network devices, as src/binding.ts declares them.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_net_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
