// Native threads that an environment has started and that end with it, if not before.
#pragma once

#include <napi.h>

#include "base.h"

namespace node_kvm {

// Closes the object when the environment ends, and does not wait for what that takes: such objects
// hold all they use.
void close_with_environment(Napi::Env env, const Ref<Object>& object);
// The object was closed.
void forget_with_environment(Napi::Env env, Object* object);

}  // namespace node_kvm
