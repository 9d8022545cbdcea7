#include "vcpu_api.h"

#include <cstring>

#include "convert.h"

namespace node_kvm {
namespace {

using Info = const Napi::CallbackInfo&;

constexpr unsigned long kSetSignalMask = 0x4004ae8b;
constexpr unsigned long kGetOneReg = 0x4010aeab;
constexpr unsigned long kSetOneReg = 0x4010aeac;
constexpr unsigned long kXenVcpuSetAttr = 0x4048aecb;
constexpr uint32_t kCapHypervEnlightenedVmcs = 163;
constexpr uint16_t kXenVcpuInfoHva = 9;

unsigned long address_of(const void* data) { return reinterpret_cast<unsigned long>(data); }

Result one_reg(Vcpu& vcpu, unsigned long request, uint64_t id, uint64_t* value) {
  // The id says how many bytes the kernel copies: 2 to the power of bits 52 to 55.
  constexpr uint64_t kLog2Of8 = 3;
  if (((id >> 52) & 0xf) > kLog2Of8) return -EINVAL;
  struct {
    uint64_t id;
    uint64_t addr;
  } argument{id, address_of(value)};
  Use use(vcpu);
  if (use.error()) return use.error();
  return checked_ioctl(vcpu.fd(), request, address_of(&argument));
}

// One register by its id: (vCPU, whether to set it, [id, value]).
Napi::Value vcpu_one_reg(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  bool set = args.number(1) != 0;
  if (!args.ok() || !info[2].IsTypedArray()) return {};
  auto array = info[2].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_biguint64_array || array.ElementLength() != 2) return {};
  uint64_t* words = array.As<Napi::BigUint64Array>().Data();
  return to_value(info.Env(), one_reg(*vcpu, set ? kSetOneReg : kGetOneReg, words[0], &words[1]));
}

Result set_signal_mask(Vcpu& vcpu, const uint64_t* blocked) {
  struct {
    uint32_t len;
    uint8_t sigset[8];
  } argument{8, {}};
  static_assert(offsetof(decltype(argument), sigset) == 4, "the set follows unaligned");
  uint64_t mask = 0;
  if (blocked != nullptr) {
    uint64_t kick = 0;
    if (Result error = kick_signal_bit(&kick)) return error;
    // A vCPU that could not be kicked could not be stopped either.
    mask = *blocked & ~kick;
    std::memcpy(argument.sigset, &mask, sizeof(mask));
  }
  Use use(vcpu);
  if (use.error()) return use.error();
  Result result =
      checked_ioctl(vcpu.fd(), kSetSignalMask, blocked == nullptr ? 0 : address_of(&argument));
  if (result >= 0) vcpu.set_signals_let_through(blocked == nullptr ? 0 : ~mask);
  return result;
}

// The signals blocked during KVM_RUN, as two halves; (vCPU) alone lifts the mask.
Napi::Value vcpu_signal_mask(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  if (!args.ok()) return {};
  if (info.Length() == 1) return to_value(info.Env(), set_signal_mask(*vcpu, nullptr));
  uint64_t low = args.u32();
  uint64_t high = args.u32();
  if (!args.ok()) return {};
  uint64_t blocked = high << 32 | low;
  return to_value(info.Env(), set_signal_mask(*vcpu, &blocked));
}

// A Xen attribute: (vCPU, RAM for vcpu_info or null, where in it, the struct's 72 bytes).
Napi::Value vcpu_xen_set_attr(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  auto* region = args.object_or_null<Region>();
  uint64_t offset = args.number();
  if (!args.ok() || !info[3].IsArrayBuffer()) return {};
  auto buffer = info[3].As<Napi::ArrayBuffer>();
  struct {
    uint16_t type;
    uint16_t pad[3];
    uint64_t hva;
    uint64_t rest[7];
  } attr;
  static_assert(sizeof(attr) == 72, "size is part of the request number");
  if (buffer.ByteLength() < sizeof(attr)) return to_value(info.Env(), kBufferTooSmall);
  // A copy: no host address ever stands in memory that JavaScript can read.
  std::memcpy(&attr, buffer.Data(), sizeof(attr));
  constexpr uint64_t kVcpuInfoSize = 64;
  if (attr.type == kXenVcpuInfoHva) {
    if (region != nullptr && (region->data() == nullptr || region->size() < kVcpuInfoSize ||
                              offset > region->size() - kVcpuInfoSize)) {
      return to_value(info.Env(), kBufferTooSmall);
    }
    // KERNEL: an address of all ones takes the attribute away.
    attr.hva = region == nullptr ? UINT64_MAX : address_of(region->data()) + offset;
  }
  Use use(*vcpu);
  if (use.error()) return to_value(info.Env(), use.error());
  Result result = checked_ioctl(vcpu->fd(), kXenVcpuSetAttr, address_of(&attr));
  // SAFETY: KVM writes there from now on, whenever the vCPU runs.
  if (result >= 0 && attr.type == kXenVcpuInfoHva) vcpu->keep_xen_vcpu_info(Ref<Region>(region));
  return to_value(info.Env(), result);
}

// KVM_CAP_HYPERV_ENLIGHTENED_VMCS: the version of the enlightened VMCS, or an error.
Napi::Value vcpu_enlightened_vmcs(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  if (!args.ok()) return {};
  uint16_t version = 0;
  struct {
    uint32_t cap;
    uint32_t flags;
    uint64_t args[4];
    uint8_t pad[64];
  } command{kCapHypervEnlightenedVmcs, 0, {address_of(&version), 0, 0, 0}, {}};
  static_assert(sizeof(command) == 104, "size is part of the request number");
  Use use(*vcpu);
  if (use.error()) return to_value(info.Env(), use.error());
  Result result = checked_ioctl(vcpu->fd(), kEnableCap, address_of(&command));
  return to_value(info.Env(), result < 0 ? result : version);
}

Napi::Value vcpu_complete_io(Info info) {
  Arguments args(info);
  auto* vcpu = args.object<Vcpu>();
  if (!args.ok()) return {};
  return to_value(info.Env(), vcpu->complete_io());
}

}  // namespace

void add_vcpu_functions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("vcpuOneReg", vcpu_one_reg);
  add("vcpuSignalMask", vcpu_signal_mask);
  add("vcpuXenSetAttr", vcpu_xen_set_attr);
  add("vcpuEnlightenedVmcs", vcpu_enlightened_vmcs);
  add("vcpuCompleteIo", vcpu_complete_io);
}

}  // namespace node_kvm
