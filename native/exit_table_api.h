// How JavaScript changes a VM's exit table.
#pragma once

#include <napi.h>

namespace node_kvm {

void add_exit_table_functions(Napi::Env env, Napi::Object exports);

}  // namespace node_kvm
