// The hot functions. Each is bound to what it needs when it is made, which spares the look-up of
// `this` on every call (measured: tens of nanoseconds against hundreds).
#pragma once

#include <napi.h>

#include "base.h"

namespace node_kvm {

// run(), issue(), issueWith(argument), kick() and issueVm(): for the vCPU or VM whose `slot`, and
// the request whose number, JavaScript has put into the environment's `chosen`.
void add_environment_functions(Napi::Env env, Napi::Object exports);

// The `slot` of vCPUs and VMs; ioctl(request, argument?) on every file of KVM but vCPUs, of which
// there are many, and functions take their time to make; signal(count) on files that are not KVM's,
// for eventfds.
void add_bound_functions(Napi::Env env, Napi::Object holder, Object* object);

}  // namespace node_kvm
