/*
 * Which code pages may run on the bare processor: those that hold, at no alignment, an
 * unprivileged instruction that would tell the guest about the host. False alarms cost speed
 * only. All begin with 0FH, whatever prefixes and in every mode, so one look serves 64-bit and
 * 32-bit code.
 *
 * What is not looked for: SGDT, SIDT, SLDT, STR and SMSW, which where the guest has CR4.UMIP
 * set, without which it has no cells, a Linux host answers as a Linux guest would; VERR and
 * VERW, which see the host's user descriptors: the guest's, when its selectors are Linux's and
 * it has no LDT; and LAR and LSL from memory, whose bytes are too common as part of other
 * instructions: each is on 2 to 3 % of Debian's code pages, where LAR or LSL of a register is
 * on 0.1 %.
 */
#pragma once

#include "base/types.h"

/* What a page holds: bits of its findings. */
enum scan_finding {
    FOUND_CPUID,    /* these five answer with the host's values */
    FOUND_XGETBV,   /* and RDPRU */
    FOUND_RDTSCP,   /* and RDPID */
    FOUND_VMMCALL,  /* where a hypervisor lies below the host, it answers */
    FOUND_LSL,      /* of a register: selector 7bh shows the number of the host's processor */
    FOUND_LAR,      /* of a register: a descriptor that set_thread_area() made is the guest's */
    FOUND_XSAVE,    /* XSAVE, XSAVEC, XSAVEOPT: the host has more components */
    FOUND_RDTSC,    /* matters where the guest's counter has an offset */
    FOUND_HIDDEN,   /* what CPUID hides of the host: RDPKRU, WRPKRU, MONITORX, CLZERO, ENCLU */
    FOUND_SYSENTER, /* SYSENTER or SYSCALL: matters in 32-bit code, see shadow.c */
    N_FINDINGS,
    /* Not of what: */
    SCAN_CUT = N_FINDINGS, /* its last bytes may begin something, see scan_joint */
    SCAN_DONE,             /* it was scanned */
};

/* The names of findings, for statistics. */
extern const char *const scan_names[N_FINDINGS];

/* The findings of the 4096 bytes at `page`, with SCAN_DONE. */
u16 scan_page(const u8 *page);

/* The offsets at which an instruction of those findings could begin, with or without what may
 * be its prefixes. Returns their number; 0: there are more than `max`, or one could begin in
 * the page before. */
unsigned scan_places(const u8 *page, u16 findings, u16 *places, unsigned max);

/* The findings of what lies within those bytes; RDSEED counts as RDPID. */
u16 scan_bytes(const u8 *bytes, unsigned n);

/* The last two bytes of a page and the first two of the one behind it in the address space: the
 * findings of what begins in the one and ends in the other. */
u16 scan_joint(const u8 bytes[4]);
