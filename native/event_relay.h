// Eventfds that pass on what is signaled: to another eventfd, by a thread of their own, whatever
// JavaScript's threads do meanwhile. Knows nothing of Node.
#pragma once

#include <mutex>
#include <unordered_map>

#include "files.h"

namespace node_kvm {

// THREAD: any.
class EventRelays {
 public:
  static EventRelays& instance();

  // Takes every count of `source` and adds it to `target`. What ends it, or an error: EBUSY when
  // the source passes on already, ELOOP when the target leads back to it.
  Result add(Ref<PlainFile> source, Ref<PlainFile> target);
  // Nothing is passed on after this returns.
  void remove(uint32_t number);

 private:
  struct Relay {
    int fd;  // a descriptor of its own for the source, which may be closed at any time
    Ref<PlainFile> source;
    Ref<PlainFile> target;
  };
  static constexpr int kBatch = 64;

  Result start();
  void loop();
  void pass_on(uint32_t number);
  const Relay* find(const PlainFile* source) const;

  std::mutex mutex_;
  int epoll_ = -1;
  uint32_t last_ = 0;
  std::unordered_map<uint32_t, Relay> relays_;
};

}  // namespace node_kvm
