#include "dirty_pages_api.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "convert.h"
#include "vm.h"

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

// (VM, slot, bitmap, where to put ranges, where to put what the slot is, bit 0: read the log, bit
// 1: keep the bits, pages to clear at a time): as take_page_ranges, from the first page on.
Napi::Value take_dirty_ranges(Info info) {
  PageBits bits = bits_of(info.Env(), info[2]);
  auto ranges = words_of<PageRange>(info.Env(), info[3], napi_uint32_array);
  auto known = words_of<double>(info.Env(), info[4], napi_float64_array);
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t slot = args.u32();
  for (int skipped = 0; skipped < 3; skipped++) args.value();
  uint32_t ways = args.u32();
  uint64_t clear_at_once = args.number();
  if (!args.ok()) return {};
  DirtySlot found;
  Result result =
      vm->renew_dirty(slot, bits, {(ways & 1) != 0, (ways & 2) != 0, clear_at_once}, &found);
  const double values[] = {static_cast<double>(found.gpa), static_cast<double>(found.pages),
                           static_cast<double>(found.clearing)};
  std::copy_n(values, std::min(known.count, std::size(values)), known.data);
  if (result < 0) return to_value(info.Env(), result);
  return to_value(info.Env(), static_cast<Result>(bits.take(0, ranges.data, ranges.count / 2)));
}

// The bitmaps of the slots that turn up in a ring, each asked for once.
class Bitmaps {
 public:
  Bitmaps(napi_env env, napi_value slots, napi_value bitmaps)
      : env_(env), slots_(words_of<uint32_t>(env, slots, napi_uint32_array)), bitmaps_(bitmaps) {}

  PageBits operator()(uint32_t slot) {
    auto known = known_.find(slot);
    if (known != known_.end()) return known->second;
    return known_[slot] = look_up(slot);
  }

 private:
  PageBits look_up(uint32_t slot) {
    const uint32_t* found = std::find(slots_.data, slots_.data + slots_.count, slot);
    napi_value bitmap;
    if (found == slots_.data + slots_.count ||
        napi_get_element(env_, bitmaps_, static_cast<uint32_t>(found - slots_.data), &bitmap) !=
            napi_ok) {
      return {};
    }
    return bits_of(env_, bitmap);
  }

  napi_env env_;
  Words<uint32_t> slots_;
  napi_value bitmaps_;
  std::unordered_map<uint32_t, PageBits> known_;
};

// What JavaScript keeps of a ring (src/core/memory/dirty-ring.ts).
struct RingPlace {
  uint32_t next;
  uint32_t since_reset;
  uint32_t overflows;
  uint32_t resets;
};

size_t harvest(Words<DirtyEntry> ring, RingPlace* place, uint32_t resets, Bitmaps& bitmaps) {
  const size_t count = ring.count * sizeof(int32_t) / sizeof(DirtyEntry);
  if (place->resets != resets) place->since_reset = 0;
  place->resets = resets;
  // A ring that went with its vCPU has none.
  if (place->next >= count || place->since_reset >= count) return 0;
  DirtyEntries entries{ring.data, count, place->next};
  size_t taken =
      entries.take(count - place->since_reset, [&](uint32_t slot) { return bitmaps(slot); });
  place->next = static_cast<uint32_t>(entries.next);
  place->since_reset += static_cast<uint32_t>(taken);
  // KERNEL: a vCPU exits when 64 entries or more are free; a ring without any was overrun.
  if (taken > 0 && place->since_reset == count) place->overflows++;
  return taken;
}

// (rings, each followed by its place; how often they were reset; slots; their bitmaps): how many
// entries it took.
Napi::Value harvest_rings(Info info) {
  napi_env env = info.Env();
  Bitmaps bitmaps(env, info[2], info[3]);
  Arguments args(info);
  args.value();
  uint32_t resets = args.u32();
  uint32_t count = 0;
  if (!args.ok() || napi_get_array_length(env, info[0], &count) != napi_ok) return {};
  size_t taken = 0;
  for (uint32_t i = 0; i + 1 < count; i += 2) {
    napi_value values[2];
    for (uint32_t k : {0u, 1u}) {
      if (napi_get_element(env, info[0], i + k, &values[k]) != napi_ok) return {};
    }
    auto place = words_of<RingPlace>(env, values[1], napi_uint32_array);
    if (place.count * sizeof(uint32_t) != sizeof(RingPlace)) return {};
    auto ring = words_of<DirtyEntry>(env, values[0], napi_int32_array);
    taken += harvest(ring, place.data, resets, bitmaps);
  }
  return to_value(env, static_cast<Result>(taken));
}

}  // namespace

void add_dirty_page_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("takePageRanges", take_page_ranges);
  add("harvestRings", harvest_rings);
  add("takeDirtyRanges", take_dirty_ranges);
}

}  // namespace node_kvm
