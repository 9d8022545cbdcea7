// The hot functions of a native object: each is bound to its object when it is made, which spares the
// look-up of `this` on every call (measured: tens of nanoseconds against hundreds).
#pragma once

#include <napi.h>

#include "base.h"

namespace node_kvm {

// ioctl(request, argument?) on every file; run() and kick() on a vCPU.
void add_bound_functions(Napi::Env env, Napi::Object holder, Object* object);

}  // namespace node_kvm
