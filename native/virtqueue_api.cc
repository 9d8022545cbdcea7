#include "virtqueue_api.h"

#include "convert.h"
#include "virtqueue.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

// A queue that JavaScript asks step by step: how tests compare it with the one in TypeScript.
class QueueObject final : public Object {
 public:
  QueueObject(const Ref<GuestRam>& ram, std::unique_ptr<Virtqueue> queue)
      : Object(Kind::kVirtqueue), ram(ram), queue(std::move(queue)) {}
  void close() override {}

  Ref<GuestRam> ram;
  std::unique_ptr<Virtqueue> queue;
  Chain chain;

 private:
  ~QueueObject() override = default;
};
}  // namespace

template <>
constexpr Kind kKindOf<QueueObject> = Kind::kVirtqueue;

namespace {

Napi::Value create_guest_ram(Info info) {
  Arguments args(info);
  Napi::Value regions = args.value();
  Napi::Value gpas = args.value();
  if (!regions.IsArray() || !gpas.IsArray()) return to_value(info.Env(), -EINVAL);
  std::vector<GuestRam::Range> ranges;
  for (uint32_t i = 0; i < regions.As<Napi::Array>().Length(); i++) {
    Object* region = object_of(info.Env(), regions.As<Napi::Array>().Get(i));
    Napi::Value gpa = gpas.As<Napi::Array>().Get(i);
    if (region == nullptr || region->kind() != Kind::kRegion || !gpa.IsNumber()) {
      return to_value(info.Env(), -EINVAL);
    }
    ranges.push_back({static_cast<uint64_t>(gpa.As<Napi::Number>().Int64Value()),
                      Ref<Region>(static_cast<Region*>(region))});
  }
  return wrap(info.Env(), Ref<Object>::adopt(new GuestRam(std::move(ranges))));
}

Napi::Value create_virtqueue(Info info) {
  Arguments args(info);
  auto* ram = args.object<GuestRam>();
  QueueSetup setup = queue_setup(args);
  if (!args.ok()) return {};
  std::unique_ptr<Virtqueue> queue = Virtqueue::create(Ref<GuestRam>(ram), setup);
  if (!queue) return to_value(info.Env(), -EINVAL);
  return wrap(info.Env(),
              Ref<Object>::adopt(new QueueObject(Ref<GuestRam>(ram), std::move(queue))));
}

// [id, slots, readable parts, then address and length of each part]; 0 for an empty queue,
// -EIO for a broken one.
Napi::Value virtqueue_pop(Info info) {
  Arguments args(info);
  auto* object = args.object<QueueObject>();
  if (!args.ok()) return {};
  Chain& chain = object->chain;
  Virtqueue::Pop result = object->queue->pop(&chain);
  if (result == Virtqueue::Pop::kEmpty) return to_value(info.Env(), 0);
  if (result == Virtqueue::Pop::kBroken) return to_value(info.Env(), -EIO);
  Napi::Array out = Napi::Array::New(info.Env());
  uint32_t at = 0;
  const auto append = [&](uint64_t number) {
    out.Set(at++, Napi::Number::New(info.Env(), static_cast<double>(number)));
  };
  append(chain.id);
  append(chain.slots);
  append(chain.readable);
  for (const iovec& part : chain.parts) {
    append(object->ram->gpa_of(part.iov_base));
    append(part.iov_len);
  }
  return out;
}

Napi::Value virtqueue_push(Info info) {
  Arguments args(info);
  auto* object = args.object<QueueObject>();
  Chain chain;
  chain.id = static_cast<uint16_t>(args.number(UINT16_MAX));
  chain.slots = static_cast<uint16_t>(args.number(object ? object->queue->size() : 0));
  uint32_t written = args.u32();
  if (args.ok()) object->queue->push(chain, written);
  return info.Env().Undefined();
}

Napi::Value virtqueue_needs_interrupt(Info info) {
  Arguments args(info);
  auto* object = args.object<QueueObject>();
  return Napi::Boolean::New(info.Env(), args.ok() && object->queue->needs_interrupt());
}

// Switching them on says whether a buffer is there already.
Napi::Value virtqueue_notifications(Info info) {
  Arguments args(info);
  auto* object = args.object<QueueObject>();
  bool on = args.number(1) != 0;
  if (!args.ok()) return {};
  if (on) return Napi::Boolean::New(info.Env(), object->queue->enable_notifications());
  object->queue->disable_notifications();
  return info.Env().Undefined();
}

}  // namespace

QueueSetup queue_setup(Arguments& args) {
  QueueSetup setup;
  setup.size = static_cast<uint16_t>(args.number(UINT16_MAX));
  uint64_t flags = args.number(15);
  setup.packed = (flags & 1) != 0;
  setup.event_index = (flags & 2) != 0;
  setup.indirect = (flags & 4) != 0;
  setup.in_order = (flags & 8) != 0;
  setup.descriptors = args.number();
  setup.driver = args.number();
  setup.device = args.number();
  return setup;
}

void add_virtqueue_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("createGuestRam", create_guest_ram);
  add("createVirtqueue", create_virtqueue);
  add("virtqueuePop", virtqueue_pop);
  add("virtqueuePush", virtqueue_push);
  add("virtqueueNeedsInterrupt", virtqueue_needs_interrupt);
  add("virtqueueNotifications", virtqueue_notifications);
}

}  // namespace node_kvm
