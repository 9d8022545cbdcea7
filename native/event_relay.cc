#include "event_relay.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <iterator>

#include "own_thread.h"

namespace node_kvm {

EventRelays& EventRelays::instance() {
  // Leaked on purpose: its thread outlives every destructor that exit() runs.
  static EventRelays* relays = new EventRelays;
  return *relays;
}

Result EventRelays::start() {
  if (epoll_ >= 0) return 0;
  int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return -errno;
  epoll_ = epoll;
  Result error = start_detached_thread(
      "kvm-relay",
      [](void* self) -> void* {
        static_cast<EventRelays*>(self)->loop();
        return nullptr;
      },
      this);
  if (error == 0) return 0;
  epoll_ = -1;
  ::close(epoll);
  return error;
}

const EventRelays::Relay* EventRelays::find(const PlainFile* source) const {
  for (const auto& entry : relays_) {
    if (entry.second.source.get() == source) return &entry.second;
  }
  return nullptr;
}

Result EventRelays::add(Ref<PlainFile> source, Ref<PlainFile> target) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (find(source.get()) != nullptr) return -EBUSY;
  for (const PlainFile* next = target.get(); next != nullptr;) {
    if (next == source.get()) return -ELOOP;
    const Relay* relay = find(next);
    next = relay == nullptr ? nullptr : relay->target.get();
  }
  if (Result error = start()) return error;
  Use use(*source);
  if (use.error()) return use.error();
  int fd = ::fcntl(source->fd(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const uint32_t number = ++last_;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = number;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    Result error = -errno;
    ::close(fd);
    return error;
  }
  relays_.emplace(number, Relay{fd, std::move(source), std::move(target)});
  return number;
}

void EventRelays::remove(uint32_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = relays_.find(number);
  if (found == relays_.end()) return;
  ::epoll_ctl(epoll_, EPOLL_CTL_DEL, found->second.fd, nullptr);
  ::close(found->second.fd);
  relays_.erase(found);
}

// THREAD: the relays' own.
void EventRelays::loop() {
  epoll_event events[kBatch];
  for (;;) {
    int count = ::epoll_wait(epoll_, events, kBatch, -1);
    for (int i = 0; i < count; i++) pass_on(events[i].data.u32);
  }
}

void EventRelays::pass_on(uint32_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto found = relays_.find(number);
  if (found == relays_.end()) return;
  uint64_t count = 0;
  // Another reader may have been faster. A target that is closed, or full, has nobody who counts.
  if (::read(found->second.fd, &count, sizeof(count)) != sizeof(count)) return;
  found->second.target->write(reinterpret_cast<const uint8_t*>(&count), sizeof(count));
}

}  // namespace node_kvm
