// The kernel's words of io_uring(7) that we use (linux/io_uring.h), since the header of the machine
// that builds may be older than what the machine that runs can do.
#pragma once

#include <cstdint>

namespace node_kvm {

constexpr long kSysIoUringSetup = 425;
constexpr long kSysIoUringEnter = 426;
constexpr long kSysIoUringRegister = 427;

struct IoUringSqe {
  uint8_t opcode;
  uint8_t flags;
  uint16_t ioprio;
  int32_t fd;
  uint64_t off;
  uint64_t addr;
  uint32_t len;
  uint32_t op_flags;  // rw_flags, fsync_flags, poll32_events
  uint64_t user_data;
  uint64_t unused[3];
};
static_assert(sizeof(IoUringSqe) == 64);

struct IoUringCqe {
  uint64_t user_data;
  int32_t res;
  uint32_t flags;
};
static_assert(sizeof(IoUringCqe) == 16);

struct IoSqringOffsets {
  uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
  uint64_t user_addr;
};

struct IoCqringOffsets {
  uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
  uint64_t user_addr;
};

struct IoUringParams {
  uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
  IoSqringOffsets sq_off;
  IoCqringOffsets cq_off;
};
static_assert(sizeof(IoUringParams) == 120);

struct IoUringProbe {
  uint8_t last_op;
  uint8_t ops_len;
  uint16_t resv;
  uint32_t resv2[3];
  struct {
    uint8_t op;
    uint8_t resv;
    uint16_t flags;
    uint32_t resv2;
  } ops[64];
};
static_assert(sizeof(IoUringProbe) == 16 + 64 * 8);

struct IoUringGeteventsArg {
  uint64_t sigmask;
  uint32_t sigmask_sz;
  uint32_t min_wait_usec;
  uint64_t ts;
};
static_assert(sizeof(IoUringGeteventsArg) == 24);

constexpr uint32_t kSetupSingleIssuer = 1u << 12;  // IORING_SETUP_SINGLE_ISSUER, Linux 6.0
constexpr uint32_t kSetupDeferTaskrun = 1u << 13;  // IORING_SETUP_DEFER_TASKRUN, Linux 6.1
constexpr uint32_t kFeatSingleMmap = 1u << 0;      // IORING_FEAT_SINGLE_MMAP
constexpr uint32_t kFeatNodrop = 1u << 1;          // IORING_FEAT_NODROP
constexpr uint32_t kFeatExtArg = 1u << 8;          // IORING_FEAT_EXT_ARG, Linux 5.11
constexpr uint32_t kFeatRsrcTags = 1u << 10;       // IORING_FEAT_RSRC_TAGS, Linux 5.13
constexpr uint32_t kPollAddMulti = 1u << 0;        // IORING_POLL_ADD_MULTI, Linux 5.13
constexpr uint32_t kCqeMore = 1u << 1;             // IORING_CQE_F_MORE
constexpr uint32_t kEnterGetevents = 1u << 0;      // IORING_ENTER_GETEVENTS
constexpr uint32_t kEnterExtArg = 1u << 3;         // IORING_ENTER_EXT_ARG
constexpr uint32_t kRegisterProbe = 8;             // IORING_REGISTER_PROBE
constexpr uint16_t kOpSupported = 1;               // IO_URING_OP_SUPPORTED
constexpr uint32_t kFsyncDatasync = 1;             // IORING_FSYNC_DATASYNC
constexpr uint64_t kOffSqes = 0x10000000;          // IORING_OFF_SQES

constexpr uint8_t kOpReadv = 1;       // IORING_OP_READV
constexpr uint8_t kOpWritev = 2;      // IORING_OP_WRITEV
constexpr uint8_t kOpFsync = 3;       // IORING_OP_FSYNC
constexpr uint8_t kOpPollAdd = 6;     // IORING_OP_POLL_ADD
constexpr uint8_t kOpFallocate = 17;  // IORING_OP_FALLOCATE

}  // namespace node_kvm
