// The functions that src/binding.ts declares for a vCPU's requests that the generic path cannot
// make: their argument holds an address, or is none, or concerns the run loop.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_vcpu_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
