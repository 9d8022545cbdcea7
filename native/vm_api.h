// The functions that src/binding.ts declares for VMs, devices and the files beside them.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_vm_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
