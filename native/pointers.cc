#include "pointers.h"

#include <cstring>

#include "convert.h"
#include "kvm_numbers.h"
#include "requests.h"

namespace node_kvm {
namespace {

// How many bytes the kernel will use at an address.
enum class Length : uint8_t {
  kField,   // the number in another field
  kBitmap,  // one bit for each of the number in another field, in whole 64-bit words
  kPages,   // 4096 for each of the number in another field
  kFixed,   // always as many
  kFile,    // no address: a 32-bit descriptor
};

struct Slot {
  uint16_t offset;
  Length length;
  uint16_t length_at;  // offset of that other field; for kFixed the length itself
  uint8_t length_size;
};

uint64_t read_number(const uint8_t* bytes, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, size);
  return value;
}

bool needed(const Slot& slot, const uint8_t* bytes, uint64_t* out) {
  if (slot.length == Length::kFixed) {
    *out = slot.length_at;
    return true;
  }
  uint64_t count = read_number(bytes + slot.length_at, slot.length_size);
  if (count > (uint64_t{1} << 48)) return false;
  if (slot.length == Length::kBitmap) *out = (count + 63) / 64 * 8;
  if (slot.length == Length::kPages) *out = count * 4096;
  if (slot.length == Length::kField) *out = count;
  return true;
}

}  // namespace

struct PointerStruct {
  uint32_t request;
  uint32_t command;
  uint16_t size;
  uint8_t slot_count;
  uint8_t repeat_stride;  // a single slot repeats at this distance, `slot_count` times
  Slot slots[4];
};

namespace {

constexpr Slot file_at(uint16_t offset) { return {offset, Length::kFile, 0, 0}; }
constexpr Slot bytes_at(uint16_t offset, uint16_t length_at, uint8_t length_size = 4) {
  return {offset, Length::kField, length_at, length_size};
}
constexpr Slot fixed_at(uint16_t offset, uint16_t size) {
  return {offset, Length::kFixed, size, 0};
}

constexpr uint32_t kSev = kMemoryEncryptOp;

constexpr PointerStruct kStructs[] = {
    {kIrqfd, kNoCommand, 32, 2, 0, {file_at(0), file_at(12)}},
    {kIoeventfd, kNoCommand, 64, 1, 0, {file_at(20)}},
    {kHypervEventfd, kNoCommand, 24, 1, 0, {file_at(4)}},
    {kXenHvmSetAttr, kNoCommand, 72, 1, 0, {file_at(24)}},
    {kClearDirtyLog, kNoCommand, 24, 1, 0, {{16, Length::kBitmap, 4, 4}}},
    {kX86SetMsrFilter, kNoCommand, 392, 16, 24, {{24, Length::kBitmap, 12, 4}}},
    // Sub-commands of KVM_MEMORY_ENCRYPT_OP: the structs that `data` of kvm_sev_cmd points at.
    {kSev, 2, 40, 2, 0, {bytes_at(8, 16), bytes_at(24, 32)}},
    {kSev, 3, 16, 1, 0, {bytes_at(0, 8)}},
    {kSev, 5, 48, 3, 0, {bytes_at(0, 8), bytes_at(16, 24), bytes_at(32, 40)}},
    {kSev, 6, 16, 1, 0, {bytes_at(0, 8)}},
    {kSev, 8, 72, 4, 0, {bytes_at(8, 16), bytes_at(24, 32), bytes_at(40, 48), bytes_at(56, 64)}},
    {kSev, 9, 48, 3, 0, {bytes_at(0, 8), bytes_at(16, 24), bytes_at(32, 40)}},
    {kSev, 12, 40, 2, 0, {bytes_at(8, 16), bytes_at(24, 32)}},
    {kSev, 13, 48, 3, 0, {bytes_at(0, 8), bytes_at(16, 24), bytes_at(32, 40)}},
    {kSev, 16, 12, 0, 0, {}},
    {kSev, 17, 24, 2, 0, {bytes_at(0, 16), bytes_at(8, 16)}},
    {kSev, 18, 24, 2, 0, {bytes_at(0, 16), bytes_at(8, 16)}},
    {kSev, 20, 32, 1, 0, {bytes_at(16, 24)}},
    {kSev, 22, 48, 0, 0, {}},
    {kSev, 100, 64, 0, 0, {}},
    {kSev, 101, 64, 1, 0, {bytes_at(8, 16, 8)}},
    {kSev, 102, 88, 2, 0, {fixed_at(0, 96), fixed_at(8, 4096)}},
    // And the one of kvm_tdx_cmd's that holds an address, under a number SEV does not use.
    {kSev, kTdxCommands + 3, 24, 1, 0, {{0, Length::kPages, 16, 8}}},
};

// The kernel would take these as host addresses: vm.cc builds them from guest RAM.
bool names_host_address(const PointerStruct& layout, const uint8_t* bytes) {
  return layout.request == kXenHvmSetAttr && read_number(bytes, 2) == kXenSharedInfoHva;
}

Slot slot_of(const PointerStruct& layout, size_t index) {
  if (layout.repeat_stride == 0) return layout.slots[index];
  Slot slot = layout.slots[0];
  uint16_t distance = static_cast<uint16_t>(layout.repeat_stride * index);
  slot.offset = static_cast<uint16_t>(slot.offset + distance);
  slot.length_at = static_cast<uint16_t>(slot.length_at + distance);
  return slot;
}

}  // namespace

const PointerStruct* find_pointer_struct(uint32_t request, uint32_t command) {
  for (const PointerStruct& layout : kStructs) {
    if (layout.request == request && layout.command == command) return &layout;
  }
  return nullptr;
}

size_t struct_size(const PointerStruct& layout) { return layout.size; }

bool Attachments::parse(Napi::Env env, Napi::Value list) {
  if (!list.IsArray()) {
    Napi::TypeError::New(env, "attachments must be a list").ThrowAsJavaScriptException();
    return false;
  }
  auto given = list.As<Napi::Array>();
  count = given.Length();
  bool ok = count <= kMaxAttachments;
  for (uint32_t i = 0; ok && i < count; i++) {
    Napi::Value value = given.Get(i);
    if (env.IsExceptionPending()) return false;
    if (value.IsNull() || value.IsUndefined()) continue;
    if (bytes_of(value, &items[i].data, &items[i].size)) continue;
    items[i].file = file_of(env, value);
    ok = items[i].file != nullptr;
  }
  if (!ok) {
    Napi::TypeError::New(env, "attachments must be bytes or files").ThrowAsJavaScriptException();
  }
  return ok;
}

FilledStruct::FilledStruct(const PointerStruct& layout, const uint8_t* bytes,
                           const Attachments& attachments)
    : layout_(layout) {
  std::memcpy(bytes_, bytes, layout.size);
  error_ = names_host_address(layout, bytes_) ? kUnknownRequest : fill(attachments);
}

FilledStruct::~FilledStruct() {
  for (size_t i = 0; i < held_count_; i++) held_[i]->release_use();
}

Result FilledStruct::hold_file(size_t offset, File& file) {
  if (Result error = file.acquire()) return error;
  held_[held_count_++] = &file;
  int fd = file.fd();
  std::memcpy(bytes_ + offset, &fd, sizeof(fd));
  return 0;
}

Result FilledStruct::fill(const Attachments& attachments) {
  for (size_t i = 0; i < layout_.slot_count; i++) {
    Slot slot = slot_of(layout_, i);
    const Attachment& item = i < attachments.count ? attachments.items[i] : Attachment{};
    if (slot.length == Length::kFile) {
      if (item.file == nullptr) continue;
      if (Result error = hold_file(slot.offset, *item.file)) return error;
      continue;
    }
    uint64_t size = 0;
    if (item.data != nullptr && (!needed(slot, bytes_, &size) || size > item.size)) {
      return kBufferTooSmall;
    }
    uint64_t address = reinterpret_cast<uint64_t>(item.data);
    std::memcpy(bytes_ + slot.offset, &address, sizeof(address));
  }
  return 0;
}

void FilledStruct::copy_back(uint8_t* out) {
  for (size_t i = 0; i < layout_.slot_count; i++) {
    Slot slot = slot_of(layout_, i);
    if (slot.length != Length::kFile) std::memset(bytes_ + slot.offset, 0, sizeof(uint64_t));
  }
  std::memcpy(out, bytes_, layout_.size);
}

Result pointer_ioctl(File& file, uint32_t request, uint8_t* bytes, size_t size,
                     const Attachments& attachments) {
  const PointerStruct* layout = find_pointer_struct(request, kNoCommand);
  if (layout == nullptr) return kUnknownRequest;
  if (size < layout->size) return kBufferTooSmall;
  FilledStruct filled(*layout, bytes, attachments);
  if (filled.error()) return filled.error();
  Use use(file);
  if (use.error()) return use.error();
  auto argument = reinterpret_cast<unsigned long>(filled.bytes());
  if (file.kind() != Kind::kVm || !waits_for_vcpus(request)) {
    return checked_ioctl(file.fd(), request, argument);
  }
  Quiet quiet(*static_cast<Vm&>(file).slots());
  return quiet.error() ? quiet.error() : checked_ioctl(file.fd(), request, argument);
}

}  // namespace node_kvm
