// For the binary that is shipped: libstdc++ and libgcc, which it contains, were built against a
// newer glibc than it shall run on. These are the two symbols of theirs that an older one does not
// have. (tools/prebuild.mjs defines NODE_KVM_OLD_GLIBC, and binds the pthread functions to old
// versions.)
#ifdef NODE_KVM_OLD_GLIBC

extern "C" {

// "There may be other threads": always the safe answer.
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;

// "No such object": the unwinder stops. Nothing is thrown here but for want of memory, which ends
// the process either way.
__attribute__((visibility("hidden"))) int _dl_find_object(void*, void*) { return -1; }
}

#endif
