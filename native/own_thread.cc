#include "own_thread.h"

#include <cpuid.h>

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

namespace {
bool has_protection_keys() {
  constexpr unsigned kEnabled = 1 << 4;  // OSPKE
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & kEnabled);
}
}  // namespace

void reset_protection_keys() {
  constexpr uint32_t kOnlyFirstKey = 0x55555554;  // as the kernel has it
  // Once for all threads: in a virtual machine CPUID is an exit.
  static const bool has_keys = has_protection_keys();
  if (!has_keys) return;
  // wrpkru, which compilers know only where they may use it anywhere.
  __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(kOnlyFirstKey), "c"(0), "d"(0) : "memory");
}

}  // namespace node_kvm
