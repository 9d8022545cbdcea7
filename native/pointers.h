// Requests whose struct holds host addresses or descriptors. JavaScript gives the struct with those
// fields empty and, beside it, what they shall refer to; the fields are filled in here, in a copy,
// after each buffer was found as long as the struct says the kernel will use.
#pragma once

#include <napi.h>

#include "base.h"

namespace node_kvm {

// What one such field refers to. Both null: the field stays as it is (an optional one).
struct Attachment {
  uint8_t* data = nullptr;
  size_t size = 0;
  File* file = nullptr;
};
constexpr size_t kMaxAttachments = 16;

struct Attachments {
  Attachment items[kMaxAttachments];
  size_t count = 0;

  // A list of Uint8Array, file handle or null. False: a JavaScript exception is pending.
  // SAFETY: addresses of buffers hold until JavaScript runs again, so until the native call
  // returns.
  bool parse(Napi::Env env, Napi::Value list);
};

// Families of requests, for `command` below.
constexpr uint32_t kNoCommand = UINT32_MAX;

struct PointerStruct;
// Null when the table does not know the request (or this command of it).
const PointerStruct* find_pointer_struct(uint32_t request, uint32_t command);

// Bytes of the struct.
size_t struct_size(const PointerStruct& layout);

// A struct with its fields filled in for one call; keeps the files open meanwhile.
class FilledStruct {
 public:
  FilledStruct(const PointerStruct& layout, const uint8_t* bytes, const Attachments& attachments);
  ~FilledStruct();
  FilledStruct(const FilledStruct&) = delete;
  FilledStruct& operator=(const FilledStruct&) = delete;

  Result error() const { return error_; }
  uint8_t* bytes() { return bytes_; }
  // What the kernel wrote into the struct, without the addresses.
  void copy_back(uint8_t* out);

 private:
  static constexpr size_t kMaxSize = 392;
  Result fill(const Attachments& attachments);
  Result hold_file(size_t offset, File& file);

  const PointerStruct& layout_;
  alignas(8) uint8_t bytes_[kMaxSize] = {};
  File* held_[2] = {};
  size_t held_count_ = 0;
  Result error_ = 0;
};

// Issues a request of the table.
Result pointer_ioctl(File& file, uint32_t request, uint8_t* bytes, size_t size,
                     const Attachments& attachments);

}  // namespace node_kvm
