/*
 * What instruction semantics need from the world: a table of functions (after Xen's x86_emulate
 * idea: one object serves the engines, the unit tests and the fuzzer). Semantics never touch
 * guest memory, devices or time but through here.
 *
 * A function that finds a guest fault does not return: it calls x86_raise(), which unwinds to
 * the x86_run_* entry. Nothing architectural may have been changed by then.
 */
#pragma once

#include "base/addr.h"

struct x86_cpu;

/* Why memory is touched; `implicit` accesses (descriptor tables, TSS, stack of a privilege
 * change) are supervisor accesses whatever the CPL (SDM vol. 3, 4.6.1). */
enum x86_access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };
enum x86_privilege { AS_CPL, AS_SUPERVISOR };

/* Which translations a flush drops (SDM vol. 3, 4.10.4). */
enum x86_flush {
    FLUSH_CR3,        /* non-global, of the current PCID */
    FLUSH_PCID,       /* non-global, of the named PCID */
    FLUSH_NON_GLOBAL, /* all PCIDs */
    FLUSH_ALL,        /* global ones too */
};

struct x86_ops {
    /*
     * Slow paths of guest memory at a linear address, taken when the software TLB misses.
     * `size` is 1..64 and the range may cross a page: then both pages are checked before
     * anything is written. Raise #PF (CR2 set by x86_raise_pf).
     */
    void (*read)(struct x86_cpu *c, struct gva la, void *buf, unsigned size,
                 enum x86_privilege as);
    void (*write)(struct x86_cpu *c, struct gva la, const void *buf, unsigned size,
                  enum x86_privilege as);
    /* Faults exactly as a write (or read) of the range would, and does nothing else (A and D
     * bits may be set). */
    void (*probe)(struct x86_cpu *c, struct gva la, unsigned size, enum x86_access access,
                  enum x86_privilege as);
    /*
     * For LOCK forms: a host pointer to `size` bytes that may be read and written atomically,
     * or NULL when the range crosses a page or is no RAM: then the caller does lock_begin,
     * read, write, lock_end. Faults as a write. The page is marked dirty and its code
     * invalidated by atomic_done().
     */
    void *(*atomic)(struct x86_cpu *c, struct gva la, unsigned size);
    void (*atomic_done)(struct x86_cpu *c, struct gva la, unsigned size);
    void (*lock_begin)(struct x86_cpu *c); /* one at a time per machine: split locks, MMIO */
    void (*lock_end)(struct x86_cpu *c);
    /* Instruction bytes: up to `size` (1..15) from `la`; returns how many could be read before
     * a fault; raises #PF only when the first byte faults. */
    unsigned (*fetch)(struct x86_cpu *c, struct gva la, void *buf, unsigned size);

    /* I/O ports, after the IOPL and bitmap checks. */
    u32 (*in)(struct x86_cpu *c, u16 port, unsigned size);
    void (*out)(struct x86_cpu *c, u16 port, unsigned size, u32 value);

    /* MSRs that are not the processor's own (APIC base, x2APIC, TSC deadline, paravirtual
     * clock); false: no such MSR, or a bad value: the caller raises #GP(0). */
    bool (*rdmsr)(struct x86_cpu *c, u32 index, u64 *value);
    bool (*wrmsr)(struct x86_cpu *c, u32 index, u64 value);
    u64 (*read_cr8)(struct x86_cpu *c);
    void (*write_cr8)(struct x86_cpu *c, u64 value);

    /* The host's counter without the guest's offset. */
    u64 (*tsc)(struct x86_cpu *c);

    /* Translations. */
    void (*invlpg)(struct x86_cpu *c, struct gva la);            /* current PCID and global */
    void (*invpcid)(struct x86_cpu *c, u16 pcid, struct gva la); /* one address of one PCID */
    void (*flush)(struct x86_cpu *c, enum x86_flush what, u16 pcid);
    /* CR0, CR3, CR4, EFER, AC or CPL changed in a way that the TLB's user must know:
     * `old_cr3_kept` is CR3 bit 63 with CR4.PCIDE, "do not flush". */
    void (*cr3_loaded)(struct x86_cpu *c, bool keep);
    void (*paging_changed)(struct x86_cpu *c); /* after CR0/CR4/EFER writes: all is flushed */
    /* DR0..DR3 or DR7 were written; or NULL. */
    void (*debug_changed)(struct x86_cpu *c);

    /*
     * PDPTEs in PAE mode are loaded with CR3 (SDM vol. 3, 4.4.1): reads the four and checks
     * them; false: reserved bits set, the caller raises #GP(0). */
    bool (*load_pdptes)(struct x86_cpu *c, u64 cr3);

    /*
     * Runs host code that x86/native.c emitted: code(state, mem) on this thread, with #XM, #MF
     * and SIGFPE caught. `code` bytes are those of x86_insn's native slot. Returns false when
     * an unmasked SIMD floating-point exception was met (MXCSR flags set in the state, no
     * register changed).
     */
    bool (*native)(struct x86_cpu *c, const void *code, void *mem);
    /* Makes executable, for as long as the decoded instruction lives, a copy of `size` bytes of
     * host code; NULL: no room. */
    const void *(*native_emit)(struct x86_cpu *c, const void *bytes, unsigned size);

    /* FERR#: x87 errors with CR0.NE clear go to IRQ 13 (SDM vol. 1, 8.7.1). */
    void (*ferr)(struct x86_cpu *c, bool level);
    /* IGNNE# asserted by a write to port F0h */
    bool (*ignne)(struct x86_cpu *c);
    /* A hypercall (VMCALL, VMMCALL); false: #UD. */
    bool (*hypercall)(struct x86_cpu *c);
};
