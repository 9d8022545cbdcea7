// The functions of guest memory that src/binding.ts declares.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_memory_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
