// The functions of userfaultfd that src/binding.ts declares.
#pragma once

#include <napi.h>

namespace node_kvm {

struct Environment;

void add_userfault_functions(Napi::Env env, Napi::Object exports);
// Closes all that are left. ORDER: before the environment waits for any vCPU's thread, which may be
// waiting for a page.
void end_userfaults(Environment& environment);

}  // namespace node_kvm
