// Many processors in one VM: created, started by INIT and SIPI, stopped, as a VMM in C would do it.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct smp_times {  // nanoseconds
  double create;
  double start;  // until all count
  double stop;   // until all threads have ended
  double close;
};

// Runs the guest of bench/guests.ts (SMP_BOOT, SMP_AP) with so many processors. -1 with errno set on
// failure; `step` names the call that failed.
int smp_run(uint32_t processors, const uint8_t *boot, size_t boot_size, const uint8_t *ap,
            size_t ap_size, struct smp_times *times, const char **step);
