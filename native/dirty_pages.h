// Dirty pages: from a vCPU's ring to a bitmap, and from a bitmap to ranges. Here rather than in
// JavaScript since a collection is rare and long: a compiler would have to learn it anew each time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace node_kvm {

struct PageRange {
  uint32_t first;
  uint32_t count;
};

// A bit for each page. The words belong to the thread that calls.
struct PageBits {
  uint64_t* words = nullptr;
  size_t count = 0;  // words

  // Takes at most `max` ranges of set bits from `page` on, and clears them. Returns how many.
  size_t take(uint64_t page, PageRange* out, size_t max);

 private:
  uint64_t find(uint64_t page) const;
  uint64_t clear_run(uint64_t page);
};

// struct kvm_dirty_gfn of linux/kvm.h.
struct DirtyEntry {
  uint32_t flags;
  uint32_t slot;
  uint64_t page;
};

// A ring, and the place in it where the next entry will be.
struct DirtyEntries {
  DirtyEntry* entries;
  size_t count;
  size_t next;

  // Takes at most `max` entries, sets the bits of their pages in what `bits_of(slot)` gives, and
  // marks them as collected. Returns how many there were.
  template <typename BitsOf>
  size_t take(size_t max, BitsOf bits_of);
};

constexpr uint32_t kDirtyGfnDirty = 1;
constexpr uint32_t kDirtyGfnReset = 2;

template <typename BitsOf>
size_t DirtyEntries::take(size_t max, BitsOf bits_of) {
  PageBits bits;
  uint32_t slot = 0;
  // Bits that are not in the bitmap yet: most entries are of pages next to the one before.
  size_t word = 0;
  uint64_t mask = 0;
  // A page beyond the bitmap is one of a slot that had this number before.
  const auto put = [&] {
    if (word < bits.count) bits.words[word] |= mask;
    mask = 0;
  };
  size_t at = next;
  size_t taken = 0;
  for (; taken < max; taken++) {
    DirtyEntry& entry = entries[at];
    // ORDER: the kernel writes an entry before its flag, and takes it back after ours.
    if (__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) != kDirtyGfnDirty) break;
    const uint64_t page = entry.page;
    if (taken == 0 || entry.slot != slot) {
      put();
      slot = entry.slot;
      bits = bits_of(slot);
    }
    if (page / 64 != word) {
      put();
      word = page / 64;
    }
    mask |= uint64_t{1} << (page % 64);
    __atomic_store_n(&entry.flags, kDirtyGfnReset, __ATOMIC_RELEASE);
    if (++at == count) at = 0;
  }
  put();
  next = at;
  return taken;
}

}  // namespace node_kvm
