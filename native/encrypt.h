// KVM_MEMORY_ENCRYPT_OP: one request, two families of commands (AMD's SEV, Intel's TDX).
#pragma once

#include "files.h"
#include "pointers.h"

namespace node_kvm {

struct EncryptRequest {
  bool tdx = false;
  uint32_t command = 0;
  uint32_t flags = 0;  // of a TDX command
  // The command's struct, written back; none when `data` is null or `size` is 0.
  uint8_t* data = nullptr;
  size_t size = 0;
  Attachments attachments;
  PlainFile* firmware = nullptr;  // /dev/sev
  uint64_t hardware_error = 0;    // out: what the firmware or the TDX module says
};

Result memory_encrypt_op(File& file, EncryptRequest& request);

// KVM_ENABLE_CAP with a descriptor as its first argument; only for the capabilities that take one.
Result enable_cap_file(File& file, uint32_t capability, File& argument);

}  // namespace node_kvm
