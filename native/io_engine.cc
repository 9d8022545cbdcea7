#include "io_engine.h"

#include "io_ring.h"
#include "io_threads.h"

namespace node_kvm {

std::unique_ptr<IoEngine> IoEngine::create(uint32_t depth, bool ring) {
  if (ring) {
    if (std::unique_ptr<IoEngine> engine = IoRing::create(depth)) return engine;
  }
  return IoThreads::create();
}

}  // namespace node_kvm
