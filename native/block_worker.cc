#include "block_worker.h"

#include <fcntl.h>
#include <unistd.h>

namespace node_kvm {
namespace {

constexpr uint64_t kKickToken = UINT64_MAX;
constexpr size_t kBatch = 64;
// The driver gets requests of one operation back together, and waits for them as long.
constexpr uint64_t kMostRunBytes = uint64_t{1} << 20;

}  // namespace

BlockWorker::BlockWorker(Setup setup, std::unique_ptr<Virtqueue> queue, int kick)
    : Object(Kind::kBlockWorker),
      setup_(std::move(setup)),
      queue_(std::move(queue)),
      requests_(queue_->size()),
      runs_(queue_->size()),
      kick_(kick) {
  for (uint32_t i = queue_->size(); i-- != 0;) free_.push_back(i);
}

BlockWorker::~BlockWorker() { ::close(kick_); }

Result BlockWorker::start(Setup setup, Ref<BlockWorker>* out) {
  std::unique_ptr<Virtqueue> queue = Virtqueue::create(setup.ram, setup.queue);
  if (!queue) return -EINVAL;
  int kick;
  {
    Use use(*setup.kick);
    if (use.error()) return use.error();
    kick = ::fcntl(setup.kick->fd(), F_DUPFD_CLOEXEC, 0);
    if (kick < 0) return -errno;
  }
  auto self = Ref<BlockWorker>::adopt(new BlockWorker(std::move(setup), std::move(queue), kick));
  self->retain();  // the thread's own reference
  // Nobody waits for it: a disk may take longer for a request than JavaScript can wait.
  Result error = start_detached_thread(
      "kvm-block",
      [](void* raw) -> void* {
        auto worker = Ref<BlockWorker>::adopt(static_cast<BlockWorker*>(raw));
        worker->loop();
        return nullptr;
      },
      self.get());
  if (error != 0) {
    self->release();
    return error;
  }
  *out = std::move(self);
  return 0;
}

void BlockWorker::wish(Wish wish) {
  Wish before = wish_.load();
  // An end is for good.
  do {
    if (before == Wish::kEnd || before == wish) return;
  } while (!wish_.compare_exchange_weak(before, wish));
  uint64_t one = 1;
  while (::write(kick_, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void BlockWorker::set_state(State state) {
  state_.store(state, std::memory_order_release);
  setup_.bell->ring();
}

void BlockWorker::loop() {
  engine_ = IoEngine::create(queue_->size(), setup_.use_ring);
  if (!engine_) {
    end(State::kFailed);
    return;
  }
  uses_ring_.store(engine_->is_ring(), std::memory_order_relaxed);
  engine_->watch(kick_, kKickToken);
  set_state(State::kRunning);
  while (!ending() || in_flight() != 0) {
    take_requests();
    start_run();
    interrupt();
    tell_pause();
    wait();
    interrupt();
  }
  end(State::kEnded);
}

void BlockWorker::wait() {
  bool idle = immediate_.empty();
  // Only a driver's event may be waiting, and its buffers are looked for anyway.
  if (idle || started_ != 0) {
    IoCompletion completions[kBatch];
    size_t count = engine_->wait(idle ? wait_ns_ : 0, completions, kBatch);
    for (size_t i = 0; i < count; i++) on_completion(completions[i]);
  }
  finish_immediate();
}

// What follows of them may be done at once as well, and waits for the next round.
void BlockWorker::finish_immediate() {
  std::vector<IoCompletion>& done = immediate_finished_;
  done.swap(immediate_);
  for (const IoCompletion& each : done) finish_run(static_cast<uint32_t>(each.token), each.result);
  done.clear();
}

// ORDER: the memory is let go before anybody is told so.
void BlockWorker::end(State state) {
  engine_.reset();
  queue_.reset();
  requests_.clear();
  runs_.clear();
  free_.clear();
  setup_.ram.reset();
  setup_.disk.reset();
  set_state(state);
}

// Each change of the wish wakes the thread, by the driver's own event.
void BlockWorker::tell_pause() {
  bool is_quiet = wish() == Wish::kPause && in_flight() == 0;
  if (is_quiet && state() == State::kRunning) set_state(State::kPaused);
  if (wish() == Wish::kRun && state() == State::kPaused) set_state(State::kRunning);
}

// No more at a time than the queue has entries: a driver that never stops must not keep the thread
// from what else there is. And no more than a megabyte, so that it hears of the first of many large
// ones while the next are done.
void BlockWorker::take_requests() {
  wait_ns_ = IoEngine::kForever;
  if (wish() != Wish::kRun || state() == State::kBroken) return;
  queue_->disable_notifications();
  uint64_t bytes = 0;
  for (size_t count = 0; !free_.empty(); count++) {
    if (count == requests_.size() || bytes >= kMostRunBytes) {
      wait_ns_ = 0;
      return;
    }
    RateLimit& limit = setup_.disk->limit;
    int64_t wait = limit.limits() ? limit.wait_ns(monotonic_ns()) : 0;
    if (wait != 0) {
      wait_ns_ = wait;
      return;
    }
    BlockRequest& request = requests_[free_.back()];
    Virtqueue::Pop result = queue_->pop(&request.chain);
    if (result == Virtqueue::Pop::kEmpty) {
      if (!queue_->enable_notifications()) return;
      queue_->disable_notifications();
      continue;
    }
    if (result == Virtqueue::Pop::kBroken || !request.parse()) {
      set_state(State::kBroken);
      return;
    }
    free_.pop_back();
    limit.charge(request.bytes());
    bytes += request.bytes();
    start(request, request.begin(*setup_.disk, setup_.features, setup_.id));
  }
}

void BlockWorker::start(BlockRequest& request, BlockRequest::Next next) {
  if (next == BlockRequest::Next::kOperation) {
    join_or_start(request);
    return;
  }
  queue_->push(request.chain, request.written());
  free_.push_back(index_of(request));
}

void BlockWorker::join_or_start(BlockRequest& request) {
  using Kind = IoOperation::Kind;
  const IoOperation& operation = request.operation();
  bool transfers = operation.kind == Kind::kRead || operation.kind == Kind::kWrite;
  uint64_t bytes = request.bytes_left();
  if (open_run_ != kNoRun) {
    Run& run = runs_[open_run_];
    const IoOperation& first = run.operation;
    bool follows = operation.kind == first.kind && operation.fd == first.fd &&
                   operation.durable == first.durable && operation.offset == run.end;
    bool fits = run.parts.size() + operation.part_count <= Virtqueue::kMostParts &&
                run.end + bytes - first.offset <= kMostRunBytes;
    if (transfers && follows && fits) {
      run.requests.push_back(index_of(request));
      run.parts.insert(run.parts.end(), operation.parts, operation.parts + operation.part_count);
      run.end += bytes;
      return;
    }
    start_run();
  }
  uint32_t index = index_of(request);
  Run& run = runs_[index];
  run.requests.assign(1, index);
  run.operation = operation;
  run.operation.token = index;
  run.parts.assign(operation.parts, operation.parts + (transfers ? operation.part_count : 0));
  run.end = operation.offset + bytes;
  open_run_ = index;
  if (!transfers) start_run();
}

void BlockWorker::start_run() {
  if (open_run_ == kNoRun) return;
  Run& run = runs_[open_run_];
  open_run_ = kNoRun;
  run.operation.parts = run.parts.data();
  run.operation.part_count = static_cast<uint32_t>(run.parts.size());
  IoCompletion completion{run.operation.token, 0};
  uint64_t bytes = run.end - run.operation.offset;
  if (immediate_io_.attempt(run.operation, bytes, &completion.result)) {
    immediate_.push_back(completion);
  } else {
    started_++;
    engine_->start(run.operation);
  }
}

// Of a run that was not done to its end, each request is done again by itself, so that each gets
// what is its own of an error.
void BlockWorker::finish_run(uint32_t first, Result result) {
  Run& run = runs_[first];
  bool whole = result >= 0 && static_cast<uint64_t>(result) == run.end - run.operation.offset;
  // Its place may be the next run's before this loop ends.
  finished_.swap(run.requests);
  for (uint32_t index : finished_) {
    BlockRequest& request = requests_[index];
    if (finished_.size() == 1) {
      start(request, request.finish(*setup_.disk, result));
    } else if (whole) {
      start(request, request.finish(*setup_.disk, static_cast<Result>(request.bytes_left())));
    } else {
      start_run();
      join_or_start(request);
      start_run();
    }
  }
}

void BlockWorker::on_completion(const IoCompletion& completion) {
  if (completion.token == kKickToken) {
    setup_.disk->counters.wakeups.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  started_--;
  finish_run(static_cast<uint32_t>(completion.token), completion.result);
}

void BlockWorker::interrupt() {
  if (!queue_->needs_interrupt()) return;
  setup_.disk->counters.interrupts.fetch_add(1, std::memory_order_relaxed);
  setup_.call->ring();
}

}  // namespace node_kvm
