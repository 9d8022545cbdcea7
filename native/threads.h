// vCPU threads as an environment sees them: started here, their exits dispatched to one JavaScript
// function, all stopped and joined before the environment goes.
#pragma once

#include <napi.h>

namespace node_kvm {

// dispatch(index, status, event) -> whether the exit is answered. THREAD: the environment's own.
Napi::Value set_dispatch(const Napi::CallbackInfo& info);
Napi::Value start_thread(const Napi::CallbackInfo& info);
}  // namespace node_kvm
