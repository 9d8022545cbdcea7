#include "io_ring.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

namespace node_kvm {
namespace {

constexpr uint32_t kWatches = 1;
constexpr uint32_t kMostEntries = 4096;
constexpr int64_t kSecond = 1000000000;
constexpr uint32_t kDsync = 2;  // RWF_DSYNC

std::atomic<uint32_t>* word(const Ref<Mapping>& rings, uint32_t offset) {
  return reinterpret_cast<std::atomic<uint32_t>*>(rings->data() + offset);
}

}  // namespace

// The newer ways spare interrupts of this thread: completions wait until it looks for them.
int IoRing::set_up(uint32_t entries, IoUringParams* params) {
  for (uint32_t flags : {kSetupSingleIssuer | kSetupDeferTaskrun, 0u}) {
    *params = {};
    params->flags = flags;
    long fd = ::syscall(kSysIoUringSetup, entries, params);
    if (fd >= 0 || errno != EINVAL) return static_cast<int>(fd);
  }
  return -1;
}

std::unique_ptr<IoRing> IoRing::create(uint32_t depth) {
  IoUringParams params;
  int fd = set_up(std::min(depth + kWatches, kMostEntries), &params);
  if (fd < 0) return nullptr;
  std::unique_ptr<IoRing> ring(new IoRing(fd));
  constexpr uint32_t kNeeded = kFeatSingleMmap | kFeatNodrop | kFeatExtArg | kFeatRsrcTags;
  if ((params.features & kNeeded) != kNeeded || !ring->knows_operations()) {
    ring.reset();
    errno = ENOSYS;
    return nullptr;
  }
  if (ring->map(params)) return ring;
  int error = errno;
  ring.reset();
  errno = error;
  return nullptr;
}

bool IoRing::knows_operations() const {
  IoUringProbe probe{};
  if (::syscall(kSysIoUringRegister, fd_, kRegisterProbe, &probe, std::size(probe.ops)) < 0) {
    return false;
  }
  for (uint8_t op : {kOpReadv, kOpWritev, kOpFsync, kOpPollAdd, kOpFallocate}) {
    if (!(probe.ops[op].flags & kOpSupported)) return false;
  }
  return true;
}

bool IoRing::map(const IoUringParams& params) {
  size_t submit_size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
  size_t complete_size = params.cq_off.cqes + params.cq_entries * sizeof(IoUringCqe);
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  constexpr int kFlags = MAP_SHARED | MAP_POPULATE;
  rings_ = Mapping::map(fd_, std::max(submit_size, complete_size), kProtection, kFlags);
  if (!rings_) return false;
  size_t entries_size = params.sq_entries * sizeof(IoUringSqe);
  entries_ = Mapping::map(fd_, entries_size, kProtection, kFlags, kOffSqes);
  if (!entries_) return false;
  submit_head_ = word(rings_, params.sq_off.head);
  submit_tail_ = word(rings_, params.sq_off.tail);
  complete_head_ = word(rings_, params.cq_off.head);
  complete_tail_ = word(rings_, params.cq_off.tail);
  completions_ = reinterpret_cast<IoUringCqe*>(rings_->data() + params.cq_off.cqes);
  submit_mask_ = params.sq_entries - 1;
  complete_mask_ = params.cq_entries - 1;
  auto* order = reinterpret_cast<uint32_t*>(rings_->data() + params.sq_off.array);
  for (uint32_t i = 0; i < params.sq_entries; i++) order[i] = i;
  return true;
}

// Whoever owns the ring has waited for all operations before: what may be left are watches.
IoRing::~IoRing() { ::close(fd_); }

IoUringSqe& IoRing::next_entry(uint8_t opcode, int fd, uint64_t token) {
  while (tail_ - submit_head_->load(std::memory_order_acquire) > submit_mask_) enter(0, 0);
  auto& entry = reinterpret_cast<IoUringSqe*>(entries_->data())[tail_++ & submit_mask_];
  entry = {};
  entry.opcode = opcode;
  entry.fd = fd;
  entry.user_data = token;
  return entry;
}

void IoRing::watch(int fd, uint64_t token) {
  watched_ = fd;
  watch_token_ = token;
  start_watch();
}

// Tells of each signal, whether or not the counter was read: which it therefore never is.
void IoRing::start_watch() {
  IoUringSqe& entry = next_entry(kOpPollAdd, watched_, watch_token_);
  entry.op_flags = POLLIN;
  entry.len = kPollAddMulti;
}

void IoRing::start(const IoOperation& operation) {
  switch (operation.kind) {
    case IoOperation::Kind::kRead:
    case IoOperation::Kind::kWrite: {
      bool read = operation.kind == IoOperation::Kind::kRead;
      IoUringSqe& entry = next_entry(read ? kOpReadv : kOpWritev, operation.fd, operation.token);
      entry.off = operation.offset;
      entry.addr = reinterpret_cast<uint64_t>(operation.parts);
      entry.len = operation.part_count;
      entry.op_flags = operation.durable ? kDsync : 0;
      return;
    }
    case IoOperation::Kind::kSync:
      next_entry(kOpFsync, operation.fd, operation.token).op_flags = kFsyncDatasync;
      return;
    case IoOperation::Kind::kAllocate: {
      IoUringSqe& entry = next_entry(kOpFallocate, operation.fd, operation.token);
      entry.off = operation.offset;
      entry.addr = operation.length;
      entry.len = static_cast<uint32_t>(operation.mode);
      return;
    }
  }
}

bool IoRing::has_completion() const {
  return complete_head_->load(std::memory_order_relaxed) !=
         complete_tail_->load(std::memory_order_acquire);
}

// Errors (a signal, no memory, a full completion ring) leave the rest for the next call.
void IoRing::enter(uint32_t wanted, int64_t timeout_ns) {
  submit_tail_->store(tail_, std::memory_order_release);
  timespec timeout{timeout_ns / kSecond, timeout_ns % kSecond};
  IoUringGeteventsArg argument{};
  if (timeout_ns >= 0) argument.ts = reinterpret_cast<uint64_t>(&timeout);
  long result = ::syscall(kSysIoUringEnter, fd_, tail_ - submitted_, wanted,
                          kEnterGetevents | kEnterExtArg, &argument, sizeof argument);
  static_cast<void>(result);
  submitted_ = submit_head_->load(std::memory_order_acquire);
}

size_t IoRing::wait(int64_t timeout_ns, IoCompletion* out, size_t most) {
  bool ready = has_completion();
  if (!ready || tail_ != submitted_) enter(ready || timeout_ns == 0 ? 0 : 1, timeout_ns);
  size_t count = 0;
  bool watch_ended = false;
  uint32_t head = complete_head_->load(std::memory_order_relaxed);
  for (; count < most && head != complete_tail_->load(std::memory_order_acquire); head++) {
    const IoUringCqe& completion = completions_[head & complete_mask_];
    out[count++] = {completion.user_data, completion.res};
    // The kernel gives up on a watch where it has no room for its completions.
    watch_ended |= completion.user_data == watch_token_ && !(completion.flags & kCqeMore);
  }
  complete_head_->store(head, std::memory_order_release);
  if (watch_ended) start_watch();
  return count;
}

}  // namespace node_kvm
