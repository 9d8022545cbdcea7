#include "dirty_pages_api.h"

#include <unordered_map>

#include "convert.h"
#include "dirty_pages.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

template <typename T>
struct Words {
  T* data = nullptr;
  size_t count = 0;
};

// The contents of a typed array of words; nothing for any other value.
template <typename T>
Words<T> words_of(napi_env env, napi_value value, napi_typedarray_type type) {
  bool is_array = false;
  napi_typedarray_type found;
  size_t length = 0;
  void* data = nullptr;
  if (napi_is_typedarray(env, value, &is_array) != napi_ok || !is_array ||
      napi_get_typedarray_info(env, value, &found, &length, &data, nullptr, nullptr) != napi_ok ||
      found != type || reinterpret_cast<uintptr_t>(data) % alignof(T) != 0) {
    return {};
  }
  return {static_cast<T*>(data), length};
}

PageBits bits_of(napi_env env, napi_value value) {
  auto words = words_of<uint64_t>(env, value, napi_int32_array);
  return {words.data, words.count / 2};
}

// (bitmap, first page, where to put pairs of first page and count): how many pairs.
Napi::Value take_page_ranges(Info info) {
  PageBits bits = bits_of(info.Env(), info[0]);
  auto out = words_of<PageRange>(info.Env(), info[2], napi_uint32_array);
  Arguments args(info);
  args.value();
  uint64_t page = args.number();
  if (!args.ok()) return {};
  return to_value(info.Env(), static_cast<Result>(bits.take(page, out.data, out.count / 2)));
}

// The bitmaps of the slots that turn up in a ring, each asked for once.
class Bitmaps {
 public:
  Bitmaps(napi_env env, Words<uint32_t> slots, napi_value bitmaps, std::pair<uint8_t*, size_t> seen)
      : env_(env), slots_(slots), bitmaps_(bitmaps), seen_(seen) {}

  PageBits operator()(uint32_t slot) {
    auto known = known_.find(slot);
    if (known != known_.end()) return known->second;
    return known_[slot] = look_up(slot);
  }

 private:
  PageBits look_up(uint32_t slot) {
    for (uint32_t i = 0; i < slots_.count && i < seen_.second; i++) {
      if (slots_.data[i] != slot) continue;
      seen_.first[i] = 1;
      napi_value bitmap;
      if (napi_get_element(env_, bitmaps_, i, &bitmap) != napi_ok) return {};
      return bits_of(env_, bitmap);
    }
    return {};
  }

  napi_env env_;
  Words<uint32_t> slots_;
  napi_value bitmaps_;
  std::pair<uint8_t*, size_t> seen_;
  std::unordered_map<uint32_t, PageBits> known_;
};

// (ring, next entry, most entries, slots, their bitmaps, where to mark those that turned up): how
// many entries it took.
Napi::Value take_dirty_entries(Info info) {
  auto ring = words_of<DirtyEntry>(info.Env(), info[0], napi_int32_array);
  auto slots = words_of<uint32_t>(info.Env(), info[3], napi_uint32_array);
  Arguments args(info);
  args.value();
  uint64_t next = args.number();
  uint64_t most = args.number();
  args.value();
  args.value();
  auto seen = args.bytes();
  if (!args.ok()) return {};
  DirtyEntries entries{ring.data, ring.count * 4 / sizeof(DirtyEntry), next};
  if (next >= entries.count) return to_value(info.Env(), 0);
  Bitmaps bitmaps(info.Env(), slots, info[4], seen);
  size_t taken = entries.take(most, [&](uint32_t slot) { return bitmaps(slot); });
  return to_value(info.Env(), static_cast<Result>(taken));
}

}  // namespace

void add_dirty_page_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("takePageRanges", take_page_ranges);
  add("takeDirtyEntries", take_dirty_entries);
}

}  // namespace node_kvm
