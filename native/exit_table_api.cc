#include "exit_table_api.h"

#include "convert.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

// Node's numbers stand for constants of 64 bits in two halves.
uint64_t halves(Arguments& args) {
  uint64_t low = args.u32();
  return low | static_cast<uint64_t>(args.u32()) << 32;
}

// Of 1, an entry that is taken would look like one that is free for the next round.
bool is_capacity(uint64_t number) { return number > 1 && (number & (number - 1)) == 0; }

// The next arguments, a region or null and an offset in it.
Place place(Arguments& args) {
  Place place;
  place.memory = Ref<Region>(args.object_or_null<Region>());
  place.offset = args.number();
  return place;
}

Index index(Arguments& args) {
  Index index;
  index.offset = args.number();
  index.select = args.u32();
  index.mask = args.u32();
  index.match = args.u32();
  return index;
}

// Whether there are so many bytes.
bool holds(const Place& place, uint64_t length) {
  const Ref<Region>& memory = place.memory;
  return memory && memory->data() != nullptr && place.offset <= memory->size() &&
         length <= memory->size() - place.offset;
}

// An aligned one of 64 bits.
bool is_word(const Place& place) {
  return place.offset % sizeof(uint64_t) == 0 && holds(place, sizeof(uint64_t));
}

bool is_valid_read(const ExitRange& range) {
  uint64_t length = range.end - range.start;
  switch (range.read) {
    case ExitRange::Read::kExit:
    case ExitRange::Read::kConstant:
    case ExitRange::Read::kClock:
      return true;
    case ExitRange::Read::kMemory:
      return holds(range.source, length);
    case ExitRange::Read::kIndexed:
      return holds(range.source, length + range.index.select) &&
             range.index.offset % sizeof(uint32_t) == 0 &&
             holds({range.source.memory, range.index.offset}, sizeof(uint32_t));
  }
  return false;
}

bool set_write(ExitRange& range, uint32_t capacity) {
  switch (range.write) {
    case ExitRange::Write::kExit:
    case ExitRange::Write::kIgnore:
      return true;
    case ExitRange::Write::kSignal:
      return static_cast<bool>(range.event);
    case ExitRange::Write::kMemory:
      return holds(range.target, range.end - range.start);
    case ExitRange::Write::kRing: {
      uint64_t needed = WriteRing::kHeader + uint64_t{capacity} * sizeof(WriteRing::Entry);
      if (range.target.offset != 0 || !is_capacity(capacity) || !holds(range.target, needed) ||
          !range.event) {
        return false;
      }
      range.ring = std::make_shared<WriteRing>(range.target.memory, capacity, range.event);
      return true;
    }
  }
  return false;
}

// (vm, isPort, start, length, size; read, constantLow, constantHigh, source, sourceOffset,
// indexOffset, select, mask, match; write, target, targetOffset, capacity, event; gate,
// gateOffset; until, untilOffset): the range's number, or an error.
Napi::Value add_exit_range(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  ExitRange range;
  range.is_port = args.number(1) != 0;
  range.start = args.number();
  range.end = range.start + args.number();
  range.size = args.u32();
  range.read = static_cast<ExitRange::Read>(args.number(UINT8_MAX));
  range.constant = halves(args);
  range.source = place(args);
  range.index = index(args);
  range.write = static_cast<ExitRange::Write>(args.number(UINT8_MAX));
  range.target = place(args);
  uint32_t capacity = args.u32();
  range.event = Ref<PlainFile>(args.object_or_null<PlainFile>());
  range.gate = place(args);
  range.until = place(args);
  if (!args.ok()) return {};
  uint64_t gates = range.end - range.start + range.index.select;
  bool valid = is_valid_read(range) && set_write(range, capacity) &&
               (!range.gate.memory || holds(range.gate, gates)) &&
               (!range.until.memory || is_word(range.until));
  if (!valid) return to_value(info.Env(), -EINVAL);
  return to_value(info.Env(), vm->exit_table()->add(std::move(range)));
}

Napi::Value remove_exit_range(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  uint32_t number = args.u32();
  if (args.ok()) vm->exit_table()->remove(number);
  return info.Env().Undefined();
}

}  // namespace

void add_exit_table_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("addExitRange", Napi::Function::New(env, add_exit_range, "addExitRange"));
  exports.Set("removeExitRange", Napi::Function::New(env, remove_exit_range, "removeExitRange"));
}

}  // namespace node_kvm
