// The vCPUs that one environment can run, each under a number, so that one function runs them all.
// V8 calls a native function straight from compiled code only where it is always the same one: with
// a function for each vCPU, a second vCPU in the process would make every run 30 ns slower.
#pragma once

#include <vector>

#include "vcpu.h"

namespace node_kvm {

// THREAD: the environment's.
class RunTable final : public RefCounted {
 public:
  uint32_t add(Ref<Vcpu> vcpu) {
    for (uint32_t slot = 0; slot < vcpus_.size(); slot++) {
      if (vcpus_[slot]) continue;
      vcpus_[slot] = std::move(vcpu);
      return slot;
    }
    vcpus_.push_back(std::move(vcpu));
    return static_cast<uint32_t>(vcpus_.size() - 1);
  }
  void remove(uint32_t slot) { vcpus_[slot].reset(); }
  // Null for a number that names none.
  Vcpu* at(uint32_t slot) const { return slot < vcpus_.size() ? vcpus_[slot].get() : nullptr; }

 private:
  ~RunTable() override = default;
  std::vector<Ref<Vcpu>> vcpus_;
};

}  // namespace node_kvm
