// The functions of dirty pages that src/binding.ts declares.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_dirty_page_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
