// Threads of our own, which run no JavaScript.
#pragma once

#include <pthread.h>
#include <signal.h>

#include "base.h"

namespace node_kvm {

// pthread_create(3) with these signals blocked and a small stack: of 8 MiB each, glibc would keep
// those of five threads for the next ones, and there may be a thousand vCPUs.
int create_thread(pthread_t* thread, const sigset_t& blocked, void* (*function)(void*),
                  void* argument);
// The same with a name (at most 15 characters) and all signals blocked, which are meant for Node;
// only SIGBUS gets through, as guest RAM may be a file that somebody truncates (bus_guard.h).
// Returns 0 or an error number.
int start_thread(pthread_t* thread, const char* name, void* (*function)(void*), void* argument);
// The same for one that nobody joins. 0 or -errno.
Result start_detached_thread(const char* name, void* (*function)(void*), void* argument);

// Gives the calling thread the rights to protected memory that a process begins with (PKRU). V8
// takes a key for its code, threads have the rights of the one that made them, and KVM changes them
// back and forth at each entry of a guest whose rights differ (kvm_load_guest_xsave_state); most
// guests have those.
void reset_protection_keys();

}  // namespace node_kvm
