/*
 * Which code pages may run on the bare processor: those that hold, at no alignment, an
 * unprivileged instruction that would tell the guest about the host. False alarms cost speed
 * only.
 *
 * What is looked for:
 *   CPUID, XGETBV, RDTSCP, RDPID, RDPRU, VMMCALL   answer with the host's values
 *   LSL of a register   selector 7bh shows the number of the host's processor (from memory it
 * is let pass: its bytes are too common as part of other instructions) XSAVE, XSAVEC, XSAVEOPT
 * the host has more components than the guest enabled RDTSC                              only
 * where the guest's counter has an offset SGDT, SIDT, SLDT, STR and SMSW are not: where the
 * guest has CR4.UMIP set, without which it has no cells, a Linux host answers them as a Linux
 * guest would. LAR, VERR and VERW see the host's user descriptors, which are the guest's when
 * its selectors are Linux's.
 */
#pragma once

#include "base/types.h"

enum scan_verdict {
    SCAN_UNKNOWN,
    SCAN_GOOD,
    SCAN_COUNTER, /* good but for RDTSC */
    SCAN_CUT,     /* good if what begins in its last bytes is, see scan_joint */
    SCAN_BAD,
};

/* The 4096 bytes at `page`. */
enum scan_verdict scan_page(const u8 *page);

/* The last two bytes of a page and the first two of the one behind it in the address space: is
 * what begins in the one and ends in the other good? */
bool scan_joint(const u8 bytes[4]);
