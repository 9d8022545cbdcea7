#include "dirty_pages.h"

namespace node_kvm {

// The first page from `page` on whose bit is set; behind the last word when there is none.
uint64_t PageBits::find(uint64_t page) const {
  size_t at = page / 64;
  if (at >= count) return uint64_t{count} * 64;
  uint64_t word = words[at] & (UINT64_MAX << (page % 64));
  while (word == 0) {
    if (++at == count) return uint64_t{count} * 64;
    word = words[at];
  }
  return uint64_t{at} * 64 + __builtin_ctzll(word);
}

// Clears the bits from `page`, which is set, up to the next that is not, whose page it returns.
uint64_t PageBits::clear_run(uint64_t page) {
  size_t at = page / 64;
  uint64_t from = UINT64_MAX << (page % 64);
  for (; at < count; at++, from = UINT64_MAX) {
    uint64_t zeros = ~words[at] & from;
    if (zeros != 0) {
      int end = __builtin_ctzll(zeros);
      words[at] &= ~(from & ((uint64_t{1} << end) - 1));
      return uint64_t{at} * 64 + end;
    }
    words[at] &= ~from;
  }
  return uint64_t{count} * 64;
}

size_t PageBits::take(uint64_t page, PageRange* out, size_t max) {
  const uint64_t end = uint64_t{count} * 64;
  size_t found = 0;
  while (found < max) {
    uint64_t first = find(page);
    if (first >= end) break;
    page = clear_run(first);
    out[found++] = {static_cast<uint32_t>(first), static_cast<uint32_t>(page - first)};
  }
  return found;
}

}  // namespace node_kvm
