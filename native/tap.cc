#include "tap.h"

// ORDER: its struct ifreq and linux/if.h's are one.
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace node_kvm {
namespace {

struct TapRequest {
  uint32_t request;
  size_t size;  // of what it points to
  bool by_value;
};
constexpr TapRequest kTapRequests[] = {
    {TUNSETIFF, sizeof(ifreq), false},     {TUNGETIFF, sizeof(ifreq), false},
    {TUNSETQUEUE, sizeof(ifreq), false},   {SIOCGIFHWADDR, sizeof(ifreq), false},
    {TUNSETVNETHDRSZ, sizeof(int), false}, {TUNGETFEATURES, sizeof(int), false},
    {TUNSETOFFLOAD, sizeof(int), true},
};

}  // namespace

Result tap_request(PlainFile& file, uint32_t request, uint8_t* data, size_t size) {
  for (const TapRequest& known : kTapRequests) {
    if (known.request != request || known.size != size) continue;
    auto argument = reinterpret_cast<unsigned long>(data);
    if (known.by_value) {
      uint32_t value;
      std::memcpy(&value, data, sizeof(value));
      argument = value;
    }
    Use use(file);
    if (use.error()) return use.error();
    return checked_ioctl(file.fd(), request, argument);
  }
  return -EINVAL;
}

Result interface_mtu(const char* name) {
  ifreq request{};
  if (std::strlen(name) >= sizeof(request.ifr_name)) return -ENAMETOOLONG;
  std::strcpy(request.ifr_name, name);
  int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  Result result = checked_ioctl(fd, SIOCGIFMTU, reinterpret_cast<unsigned long>(&request));
  ::close(fd);
  return result < 0 ? result : request.ifr_mtu;
}

}  // namespace node_kvm
