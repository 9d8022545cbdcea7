// Guest RAM and virtqueues as src/binding.ts declares them.
#pragma once

#include <napi.h>

#include "virtqueue.h"

namespace node_kvm {

class Arguments;

void add_virtqueue_functions(Napi::Env env, Napi::Object exports);

// Of the arguments size, flags (1 packed, 2 event index, 4 indirect, 8 in order) and the three
// addresses.
QueueSetup queue_setup(Arguments& args);

}  // namespace node_kvm
