#include "guest_ram.h"

#include <algorithm>

namespace node_kvm {

GuestRam::GuestRam(std::vector<Range> ranges) : Object(Kind::kGuestRam) {
  for (Range& range : ranges) {
    if (range.region->data() != nullptr) ranges_.push_back(std::move(range));
  }
  std::sort(ranges_.begin(), ranges_.end(),
            [](const Range& a, const Range& b) { return a.gpa < b.gpa; });
}

const GuestRam::Range* GuestRam::at(uint64_t gpa) const {
  auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), gpa,
                       [](uint64_t wanted, const Range& range) { return wanted < range.gpa; });
  if (after == ranges_.begin()) return nullptr;
  const Range& range = *(after - 1);
  return gpa - range.gpa < range.region->size() ? &range : nullptr;
}

uint8_t* GuestRam::find(uint64_t gpa, uint64_t length) const {
  const Range* range = at(gpa);
  if (range == nullptr || !range->region->has(gpa - range->gpa, length)) return nullptr;
  return range->region->data() + (gpa - range->gpa);
}

bool GuestRam::append(uint64_t gpa, uint64_t length, size_t most, std::vector<iovec>* parts) const {
  size_t before = parts->size();
  while (length != 0) {
    const Range* range = at(gpa);
    if (range == nullptr || parts->size() == most) {
      parts->resize(before);
      return false;
    }
    uint64_t offset = gpa - range->gpa;
    uint64_t here = std::min(length, range->region->size() - offset);
    parts->push_back({range->region->data() + offset, here});
    // A range ends at 2^52 at most, so this cannot wrap.
    gpa += here;
    length -= here;
  }
  return true;
}

uint64_t GuestRam::gpa_of(const void* address) const {
  auto at = static_cast<const uint8_t*>(address);
  for (const Range& range : ranges_) {
    auto offset = static_cast<uint64_t>(at - range.region->data());
    if (at >= range.region->data() && offset < range.region->size()) return range.gpa + offset;
  }
  return 0;
}

}  // namespace node_kvm
