// An IoEngine by io_uring(7): what is started is submitted, and what is complete is taken, with one
// system call for all of it.
#pragma once

#include "io_engine.h"
#include "io_uring_numbers.h"

namespace node_kvm {

class IoRing final : public IoEngine {
 public:
  // Null with errno set where io_uring is missing, forbidden, or too old (before Linux 5.13).
  static std::unique_ptr<IoRing> create(uint32_t depth);
  ~IoRing() override;

  void watch(int fd, uint64_t token) override;
  void start(const IoOperation& operation) override;
  size_t wait(int64_t timeout_ns, IoCompletion* out, size_t most) override;
  bool is_ring() const override { return true; }

 private:
  explicit IoRing(int fd) : fd_(fd) {}
  static int set_up(uint32_t entries, IoUringParams* params);
  bool map(const IoUringParams& params);
  bool knows_operations() const;
  // Zeroed, but for what the arguments say.
  IoUringSqe& next_entry(uint8_t opcode, int fd, uint64_t token);
  void enter(uint32_t wanted, int64_t timeout_ns);
  void start_watch();
  bool has_completion() const;

  int fd_;
  int watched_ = -1;
  uint64_t watch_token_ = 0;
  Ref<Mapping> rings_;
  Ref<Mapping> entries_;
  std::atomic<uint32_t>* submit_head_ = nullptr;
  std::atomic<uint32_t>* submit_tail_ = nullptr;
  std::atomic<uint32_t>* complete_head_ = nullptr;
  std::atomic<uint32_t>* complete_tail_ = nullptr;
  IoUringCqe* completions_ = nullptr;
  uint32_t submit_mask_ = 0;
  uint32_t complete_mask_ = 0;
  uint32_t tail_ = 0;       // ours of the submission ring
  uint32_t submitted_ = 0;  // how much of it the kernel has taken
};

}  // namespace node_kvm
