// A guest's RAM as devices in native code see it: where each guest-physical address is in this
// process. It never changes, and holds the regions as long as anybody uses it.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "memory.h"

namespace node_kvm {

class GuestRam final : public Object {
 public:
  struct Range {
    uint64_t gpa;
    Ref<Region> region;
  };
  // Regions without an address count for nothing; none overlaps another.
  explicit GuestRam(std::vector<Range> ranges);

  // Where a range is that lies in one region; null when it does not.
  // SAFETY: the guest reads and writes there at any time.
  uint8_t* find(uint64_t gpa, uint64_t length) const;
  // Appends where the parts of a range are, or appends nothing and returns false when some of it is
  // no RAM, or there would be more than `most`.
  bool append(uint64_t gpa, uint64_t length, size_t most, std::vector<iovec>* parts) const;

  // Of an address that find() or append() gave.
  uint64_t gpa_of(const void* address) const;

  void close() override {}

 private:
  ~GuestRam() override = default;
  const Range* at(uint64_t gpa) const;
  std::vector<Range> ranges_;  // by address
};

}  // namespace node_kvm
