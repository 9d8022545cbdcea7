// TAP and macvtap devices: the requests of their files, from a short list.
#pragma once

#include "files.h"

namespace node_kvm {

// One ioctl of a TAP's file. `data` is what the request points to, or a number of four bytes that
// is its argument; -EINVAL for another request or size.
Result tap_request(PlainFile& file, uint32_t request, uint8_t* data, size_t size);

// SIOCGIFMTU of the interface of this name in the thread's network namespace.
Result interface_mtu(const char* name);

}  // namespace node_kvm
