// The thread behind one queue of a virtio block device: it takes requests from the queue, gives the
// driver's buffers to the kernel as they are, and interrupts when something is complete. Knows no
// Node.
#pragma once

#include "block_request.h"
#include "files.h"
#include "immediate_io.h"
#include "own_thread.h"

namespace node_kvm {

class BlockWorker final : public Object {
 public:
  struct Setup {
    Ref<Disk> disk;
    Ref<GuestRam> ram;
    QueueSetup queue;
    Ref<PlainFile> kick;  // an eventfd: the driver has made buffers available
    Ref<PlainFile> call;  // an eventfd: interrupt the driver
    Ref<PlainFile> bell;  // an eventfd: the state has changed
    BlockFeatures features;
    uint8_t id[BlockRequest::kIdSize] = {};
    bool use_ring = true;  // io_uring, where this kernel has it
  };
  enum class State : uint32_t {
    kStarting,
    kRunning,
    kPaused,  // nothing is in flight
    kBroken,  // the driver did what it must not; what was begun is finished
    kFailed,  // there are no means to run it
    kEnded,   // nothing is in flight, no memory is used any more
  };

  // -EINVAL for a queue that cannot be, or what the kernel says.
  static Result start(Setup setup, Ref<BlockWorker>* out);
  // Asks the thread to end: it takes no more requests and finishes what is in flight, however long
  // the kernel takes. The state says when. Idempotent. THREAD: any.
  void close() override { wish(Wish::kEnd); }
  // Asks it to take no more requests for the time being. The state says when nothing is in flight.
  void pause() { wish(Wish::kPause); }
  void resume() { wish(Wish::kRun); }
  State state() const { return state_.load(std::memory_order_acquire); }
  bool uses_ring() const { return uses_ring_.load(std::memory_order_relaxed); }

 private:
  enum class Wish : uint32_t { kRun, kPause, kEnd };
  static constexpr uint32_t kNoRun = UINT32_MAX;
  BlockWorker(Setup setup, std::unique_ptr<Virtqueue> queue, int kick);
  ~BlockWorker() override;
  void loop();
  void end(State state);
  void take_requests();
  void start(BlockRequest& request, BlockRequest::Next next);
  void join_or_start(BlockRequest& request);
  void start_run();
  void finish_run(uint32_t first, Result result);
  uint32_t index_of(const BlockRequest& request) const {
    return static_cast<uint32_t>(&request - requests_.data());
  }
  void wait();
  void finish_immediate();
  void on_completion(const IoCompletion& completion);
  void interrupt();
  void set_state(State state);
  void tell_pause();
  void wish(Wish wish);
  Wish wish() const { return wish_.load(std::memory_order_acquire); }
  bool ending() const { return wish() == Wish::kEnd; }
  size_t in_flight() const { return requests_.size() - free_.size(); }

  Setup setup_;
  std::unique_ptr<Virtqueue> queue_;
  std::unique_ptr<IoEngine> engine_;
  std::vector<BlockRequest> requests_;
  std::vector<uint32_t> free_;  // indices of requests that are not in flight
  // Requests whose places on the disk follow one another are one operation of the kernel's: its
  // price is for each, and for writes to a file that of another thread.
  struct Run {
    std::vector<uint32_t> requests;
    std::vector<iovec> parts;
    IoOperation operation;
    uint64_t end = 0;  // on the disk
  };
  std::vector<Run> runs_;       // by the index of the first of its requests
  uint32_t open_run_ = kNoRun;  // which may become longer
  std::vector<uint32_t> finished_;
  ImmediateIo immediate_io_;
  std::vector<IoCompletion> immediate_;  // what it has done
  std::vector<IoCompletion> immediate_finished_;
  size_t started_ = 0;  // what the engine has to do
  int kick_;            // a descriptor of its own: the file may be closed at any time
  int64_t wait_ns_ = IoEngine::kForever;
  std::atomic<Wish> wish_{Wish::kRun};
  std::atomic<bool> uses_ring_{false};
  std::atomic<State> state_{State::kStarting};
};

}  // namespace node_kvm
