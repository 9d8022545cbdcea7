{
  "targets": [
    {
      "target_name": "node_kvm",
      "sources": [
        "native/addon.cc",
        "native/base.cc",
        "native/bound.cc",
        "native/bus_guard.cc",
        "native/convert.cc",
        "native/device.cc",
        "native/encrypt.cc",
        "native/event_relay.cc",
        "native/eventfd_watch.cc",
        "native/exit_meter.cc",
        "native/exit_table.cc",
        "native/exit_table_api.cc",
        "native/files.cc",
        "native/guest_ram.cc",
        "native/kick.cc",
        "native/memory.cc",
        "native/memory_api.cc",
        "native/packed_queue.cc",
        "native/pointers.cc",
        "native/old_glibc.cc",
        "native/requests.cc",
        "native/run_loop.cc",
        "native/split_queue.cc",
        "native/system.cc",
        "native/thread_api.cc",
        "native/threads.cc",
        "native/userfault.cc",
        "native/userfault_api.cc",
        "native/vcpu.cc",
        "native/vcpu_api.cc",
        "native/virtqueue.cc",
        "native/virtqueue_api.cc",
        "native/vm.cc",
        "native/vm_api.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"],
      "ldflags": ["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,-z,nodelete"]
    }
  ]
}
