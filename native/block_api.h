// Disks and the threads that serve them, as src/binding.ts declares them.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_block_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
