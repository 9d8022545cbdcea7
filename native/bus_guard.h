// Keeps the process alive when guest RAM is a file that somebody truncates, or huge pages of which
// the pool has run out: touching such a page is SIGBUS. Within the ranges registered here, and
// nowhere else, the page is replaced by one of zeros and counted. Every other SIGBUS goes to
// whoever had the signal before. Nothing is installed before the first such range.
#pragma once

#include "base.h"

namespace node_kvm {

class BusGuard {
 public:
  // `page` is the size of the mapping's pages. THREAD: any.
  static Result add(uint8_t* data, uint64_t size, uint64_t page, std::atomic<uint32_t>* lost);
  // ORDER: no access of the range may be under way.
  static void remove(const uint8_t* data);
};

}  // namespace node_kvm
