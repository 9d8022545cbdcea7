#include "own_thread.h"

#include <signal.h>

namespace node_kvm {

int start_thread(pthread_t* thread, const char* name, void* (*function)(void*), void* argument) {
  sigset_t blocked, previous;
  ::sigfillset(&blocked);
  ::sigdelset(&blocked, SIGBUS);
  ::pthread_sigmask(SIG_SETMASK, &blocked, &previous);
  int error = ::pthread_create(thread, nullptr, function, argument);
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (error == 0) ::pthread_setname_np(*thread, name);
  return error;
}

Result start_detached_thread(const char* name, void* (*function)(void*), void* argument) {
  pthread_t thread;
  int error = start_thread(&thread, name, function, argument);
  if (error == 0) ::pthread_detach(thread);
  return -error;
}

}  // namespace node_kvm
