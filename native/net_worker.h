// A thread that serves one queue pair of a network device: frames go between the guest's buffers
// and a TAP, woken by either, without an exit of a vCPU and without JavaScript. Knows no Node.
#pragma once

#include "files.h"
#include "frame_receiver.h"
#include "frame_sender.h"

namespace node_kvm {

class NetWorker final : public Object {
 public:
  struct Queue {
    QueueSetup setup;
    Ref<PlainFile> kick;  // the driver rings it
    Ref<PlainFile> call;  // rung to interrupt the driver
    RateLimit::Rate bytes;
    RateLimit::Rate frames;
  };
  struct Request {
    Ref<GuestRam> ram;
    Ref<PlainFile> tap;
    Ref<PlainFile> bell;  // rung when state() has changed
    bool mergeable = false;
    bool link_up = true;
    Queue receive;
    Queue transmit;
  };

  // What has happened; bits.
  enum State : uint32_t {
    kBroken = 1,  // the driver did what it must not, and the device needs a reset
    kGone = 2,    // the TAP is gone: frames of the guest are thrown away
    kEnded = 4,   // the thread touches nothing any more
    kPaused = 8,  // it touches nothing until resume()
  };

  // An error, or 0 with `out` set. -EINVAL for rings that are not in RAM.
  static Result start(const Request& request, Ref<NetWorker>* out);
  uint32_t state() const { return state_.load(std::memory_order_acquire); }
  void set_link(bool up);
  // Does not wait: kPaused says when the thread is there. ORDER: resume() only after that.
  void pause();
  void resume();
  const NetCounts& received() const { return receive_.counts; }
  const NetCounts& transmitted() const { return transmit_.counts; }
  // Asks the thread to end and does not wait: kEnded says when it has. Idempotent.
  void stop();
  void close() override { stop(); }

 private:
  struct Direction {
    NetCounts counts;
    RateLimit limit;
    bool has_frames = true;  // where they come from may have some
    bool has_room = true;    // where they go may take some
    bool can_move() const { return has_frames && has_room; }
  };
  explicit NetWorker(const Request& request);
  ~NetWorker() override;
  Result set_up();
  Result watch(PlainFile& file, uint32_t events, uint64_t what);
  void loop();
  void wait(int64_t timeout_ns);
  // Each moves what it can, and says in how many nanoseconds it is to be called again; below 0:
  // when something has happened.
  int64_t receive();
  int64_t transmit();
  int64_t after(FrameOutcome outcome, Direction* direction);
  void report(uint32_t bits);

  Request request_;
  int epoll_ = -1;
  int tap_ = -1;
  int wake_ = -1;
  std::atomic<uint32_t> state_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> pausing_{false};
  std::atomic<bool> link_up_;
  // Its counts are everybody's, the rest is the thread's.
  Direction receive_;
  Direction transmit_;
  std::unique_ptr<FrameReceiver> receiver_;
  std::unique_ptr<FrameSender> sender_;
};

}  // namespace node_kvm
