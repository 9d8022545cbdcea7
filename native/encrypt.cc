#include "encrypt.h"

#include <cstring>
#include <optional>

#include "kvm_numbers.h"

namespace node_kvm {
namespace {

constexpr uint32_t kTdxInitVcpu = 2;

// Bytes the kernel uses of a command's struct that holds no address; 0 for a command without one.
// The CPUID tables of TDX end in as many entries as they say.
size_t plain_size(const EncryptRequest& request) {
  if (!request.tdx) return 0;
  constexpr size_t kEntry = 40;
  const auto with_table = [&](size_t at) {
    uint32_t entries = 0;
    if (request.size >= at + 8) std::memcpy(&entries, request.data + at, sizeof(entries));
    return at + 8 + kEntry * size_t{entries};
  };
  switch (request.command) {
    case 0:
      return with_table(2048);
    case 1:
      return with_table(256);
    case 5:
      return with_table(0);
    default:
      return 0;
  }
}

Result issue(File& file, EncryptRequest& request, uint64_t data) {
  EncryptCommand command{};
  command.id = request.command;
  command.flags = request.flags;
  command.data = data;
  std::optional<Use> firmware;
  if (!request.tdx) {
    command.sev.sev_fd = UINT32_MAX;
    if (request.firmware != nullptr) {
      firmware.emplace(*request.firmware);
      if (firmware->error()) return firmware->error();
      command.sev.sev_fd = static_cast<uint32_t>(request.firmware->fd());
    }
  }
  Use use(file);
  if (use.error()) return use.error();
  Result result =
      checked_ioctl(file.fd(), kMemoryEncryptOp, reinterpret_cast<unsigned long>(&command));
  request.hardware_error = request.tdx ? command.hw_error : command.sev.error;
  return result;
}

}  // namespace

Result memory_encrypt_op(File& file, EncryptRequest& request) {
  uint32_t key = request.tdx ? kTdxCommands + request.command : request.command;
  const PointerStruct* layout = find_pointer_struct(kMemoryEncryptOp, key);
  if (request.tdx && request.command == kTdxInitVcpu) {
    uint64_t value = 0;  // not an address: the vCPU's first RCX
    if (request.size < sizeof(value)) return kBufferTooSmall;
    std::memcpy(&value, request.data, sizeof(value));
    return issue(file, request, value);
  }
  if (layout == nullptr) {
    size_t needed = plain_size(request);
    if (needed > request.size) return kBufferTooSmall;
    return issue(file, request, needed == 0 ? 0 : reinterpret_cast<uint64_t>(request.data));
  }
  if (request.size < struct_size(*layout)) return kBufferTooSmall;
  FilledStruct filled(*layout, request.data, request.attachments);
  if (filled.error()) return filled.error();
  Result result = issue(file, request, reinterpret_cast<uint64_t>(filled.bytes()));
  filled.copy_back(request.data);
  return result;
}

Result enable_cap_file(File& file, uint32_t capability, File& argument) {
  constexpr uint32_t kWithFile[] = {196, 197, 206};  // SGX_ATTRIBUTE, VM_COPY_ and VM_MOVE_ENC_...
  bool known = false;
  for (uint32_t number : kWithFile) known = known || number == capability;
  if (!known) return kUnknownRequest;
  Use use_argument(argument);
  if (use_argument.error()) return use_argument.error();
  Use use(file);
  if (use.error()) return use.error();
  struct {
    uint32_t cap;
    uint32_t flags;
    uint64_t args[4];
    uint8_t pad[64];
  } command{capability, 0, {static_cast<uint64_t>(argument.fd()), 0, 0, 0}, {}};
  static_assert(sizeof(command) == 104, "size is part of the request number");
  return checked_ioctl(file.fd(), kEnableCap, reinterpret_cast<unsigned long>(&command));
}

}  // namespace node_kvm
