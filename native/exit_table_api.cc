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

bool set_read(ExitRange& range, Region* memory) {
  if (range.read != ExitRange::Read::kMemory) return range.read <= ExitRange::Read::kMemory;
  uint64_t length = range.end - range.start;
  if (memory == nullptr || memory->data() == nullptr || range.offset > memory->size() ||
      length > memory->size() - range.offset) {
    return false;
  }
  range.memory = Ref<Region>(memory);
  return true;
}

bool set_write(ExitRange& range, Object* destination, uint32_t capacity, PlainFile* bell) {
  switch (range.write) {
    case ExitRange::Write::kExit:
    case ExitRange::Write::kIgnore:
      return true;
    case ExitRange::Write::kSignal:
      if (destination == nullptr || destination->kind() != Kind::kFile) return false;
      range.event = Ref<PlainFile>(static_cast<PlainFile*>(destination));
      return true;
    case ExitRange::Write::kRing: {
      if (destination == nullptr || destination->kind() != Kind::kRegion) return false;
      auto* region = static_cast<Region*>(destination);
      uint64_t needed = WriteRing::kHeader + uint64_t{capacity} * sizeof(WriteRing::Entry);
      if (region->data() == nullptr || !is_capacity(capacity) || needed > region->size() ||
          bell == nullptr) {
        return false;
      }
      range.ring = std::make_shared<WriteRing>(Ref<Region>(region), capacity, Ref<PlainFile>(bell));
      return true;
    }
  }
  return false;
}

// (vm, isPort, start, length, read, constantLow, constantHigh, memory, offset, write, destination,
// capacity, bell): the range's number, or an error.
Napi::Value add_exit_range(Info info) {
  Arguments args(info);
  auto* vm = args.object<Vm>();
  ExitRange range;
  range.is_port = args.number(1) != 0;
  range.start = args.number();
  range.end = range.start + args.number();
  range.read = static_cast<ExitRange::Read>(args.number(UINT8_MAX));
  range.constant = halves(args);
  auto* memory = args.object_or_null<Region>();
  range.offset = args.number();
  range.write = static_cast<ExitRange::Write>(args.number(UINT8_MAX));
  Object* destination = object_of(info.Env(), args.value());
  uint32_t capacity = args.u32();
  auto* bell = args.object_or_null<PlainFile>();
  if (!args.ok()) return {};
  if (!set_read(range, memory) || !set_write(range, destination, capacity, bell)) {
    return to_value(info.Env(), -EINVAL);
  }
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
