#include "own_thread.h"

namespace node_kvm {

int create_thread(pthread_t* thread, const sigset_t& blocked, void* (*function)(void*),
                  void* argument) {
  constexpr size_t kStackSize = 256 * 1024;
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kStackSize);
  sigset_t previous;
  ::pthread_sigmask(SIG_SETMASK, &blocked, &previous);
  int error = ::pthread_create(thread, &attributes, function, argument);
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  ::pthread_attr_destroy(&attributes);
  return error;
}

int start_thread(pthread_t* thread, const char* name, void* (*function)(void*), void* argument) {
  sigset_t blocked;
  ::sigfillset(&blocked);
  ::sigdelset(&blocked, SIGBUS);
  int error = create_thread(thread, blocked, function, argument);
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
