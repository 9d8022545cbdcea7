// Sleeping on a number until somebody changes it: futex(2), private to the process.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace node_kvm {

// Returns when woken, at once when the word is not `expected`, or for no reason.
template <typename Word>
void futex_wait(std::atomic<Word>& word, Word expected) {
  static_assert(sizeof(word) == sizeof(uint32_t));
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

template <typename Word>
void futex_wake(std::atomic<Word>& word) {
  static_assert(sizeof(word) == sizeof(uint32_t));
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace node_kvm
