# Two addons for the benchmarks only, built on demand by bench/build.ts: the C loops that everything
# is compared with, and the product's addon with KVM_RUN replaced by a request that fails at once.
{
  "targets": [
    {
      "target_name": "bench_loops",
      "sources": ["native/addon.c", "native/guest.c", "native/handoff.c", "native/interrupts.c", "native/loops.c", "native/queues.c", "native/queues_addon.c", "native/smp.c", "native/tracked.c", "native/tracked_addon.c", "native/tested.c", "native/tested_addon.c"],
      "defines": ["NAPI_VERSION=9"],
      "cflags_c": ["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden"]
    },
    {
      "target_name": "node_kvm_bare",
      "sources": ["<!@(node -p \"require('fs').readdirSync('../native').filter((name) => name.endsWith('.cc')).map((name) => '../native/' + name).join(' ')\")"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_KVM_BARE_RUN"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-fvisibility=hidden"],
      "ldflags": ["-static-libstdc++", "-static-libgcc"]
    }
  ]
}
