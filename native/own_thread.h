// Threads of our own that run no JavaScript and no guest.
#pragma once

#include <pthread.h>

#include "base.h"

namespace node_kvm {

// pthread_create(3) with a name (at most 15 characters) and all signals blocked, which are meant
// for Node; only SIGBUS gets through, as guest RAM may be a file that somebody truncates
// (bus_guard.h). Returns 0 or an error number.
int start_thread(pthread_t* thread, const char* name, void* (*function)(void*), void* argument);
// The same for one that nobody joins. 0 or -errno.
Result start_detached_thread(const char* name, void* (*function)(void*), void* argument);

}  // namespace node_kvm
