/*
 * One x86 processor: the canonical architectural state (law 1), the derived values that
 * make running fast, and the software TLB that every engine's fast path reads.
 *
 * Threads: a struct x86_cpu belongs to the thread that runs it, except `attention`, which
 * anyone may set. Engines borrow the state between enter and leave.
 */
#pragma once

#include <setjmp.h>
#include <stdatomic.h>

#include "base/addr.h"
#include "x86/ops.h"
#include "x86/regs.h"

struct x86_model;
struct x86_insn;
struct log;

#define FLAT_READ  1
#define FLAT_WRITE 2

struct x86_seg {
    u16 sel;
    u32 attr;  /* SEG_*, see regs.h */
    u32 limit; /* in bytes, granularity applied */
    u64 base;
};

/* Derived, what a segment lets accesses reach: one of `size` bytes at `offset` (cut to the
 * address size) is allowed if first <= offset and offset + size <= end[write]. end 0: none is.
 * `first` is not 0 in segments that expand down. Not kept in 64-bit mode. */
struct x86_reach {
    u64 first, end[2];
    u8 flat; /* FLAT_*, whether or not accesses are watched */
};

struct x86_table { /* GDTR, IDTR */
    u64 base;
    u16 limit;
};

/*
 * x87, SSE and AVX state in the host's own standard XSAVE layout (SDM vol. 1, 13.4), so that
 * XSAVE and XRSTOR move it whole. All three components are always valid here: xstate_bv in the
 * header is XCR0_X87 | XCR0_SSE | XCR0_AVX on every exit, whatever the registers hold.
 */
struct x86_fpu {
    u16 fcw;
    u16 fsw;
    u8 ftw; /* abridged: one bit a register, 1 = not empty */
    u8 reserved0;
    u16 fop;
    u64 fip;
    u64 fdp;
    u32 mxcsr;
    u32 mxcsr_mask;
    u8 st[8][16]; /* ST(i), not physical R(i); 10 bytes each */
    u8 xmm[16][16];
    u8 reserved1[96];
    u64 xstate_bv;
    u64 xcomp_bv;
    u8 header_rest[48];
    u8 ymm_hi[16][16];
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct x86_fpu, xmm) == 160, "FXSAVE layout");
_Static_assert(offsetof(struct x86_fpu, ymm_hi) == 576, "XSAVE standard layout");

/*
 * The software TLB: three direct-mapped sets, by who accesses. Invariants:
 *  - a tag equals the page's gva only if that access would succeed now without any change to
 *    the guest's page tables (A set; D set for `write`) and without a side effect in the
 *    monitor (the page is RAM, not watched for code or dirty logging where `write`), and no
 *    data breakpoint of the debug registers for such accesses lies in the page;
 *  - otherwise the tag is tlb_invalid(slot); `page` is the hva of a RAM page's first byte.
 * CR3 loads, INVLPG and pmap changes remove entries; mode switches do not. Entries that are not
 * global belong to the current PCID.
 *
 * Arrays beside each other, not entries: a slot number times 8 is an addressing mode, so
 * translated code needs no shift. `address ^ tag` below 4096 is then both the hit and the
 * offset in the page.
 */
enum x86_tlb_index {
    TLB_KERNEL, /* CPL 0..2, SMAP in force when CR4.SMAP and not EFLAGS.AC; implicit accesses */
    TLB_USER,   /* CPL 3 */
    TLB_KERNEL_AC, /* CPL 0..2 with EFLAGS.AC (or no CR4.SMAP): user pages allowed */
    TLB_SETS,
};
#define TLB_SIZE 4096

struct x86_tlb {
    u64 read[TLB_SIZE];
    u64 write[TLB_SIZE];
    u64 exec[TLB_SIZE];
    u64 page[TLB_SIZE];
};

/* Which slots are filled, so that a flush costs what was filled; kept by memory/tlb.c. */
struct x86_tlb_use {
    u64 local[TLB_SETS][TLB_SIZE / 64];  /* entries that go with CR3 */
    u64 global[TLB_SETS][TLB_SIZE / 64]; /* entries that stay */
    u64 drops; /* how often the pmap changed: for translations that engines keep elsewhere */
};

/*
 * The second level, behind all three sets: what walks found, by linear page and space, so that
 * neither a conflict in the first level nor a change of CR3 costs a walk. A large page has one
 * entry (of 1 GiB: one for each region), so that INVLPG need not look for many. A space is a
 * number that stands for the non-global translations of one PCID since they were flushed last;
 * a flush gives the PCID a new one. Kept by memory/stlb.c.
 *
 * A region is what the smaller kind of large page covers: 4 MiB in 32-bit paging without PAE, 2
 * MiB in all else.
 */
#define STLB_SETS    1024
#define STLB_WAYS    4
#define STLB_REGIONS 16384
struct x86_stlb {
    struct {
        u64 tag[STLB_WAYS];  /* linear page or region 35:0, 36: region, space 63:37; 0: empty */
        u64 data[STLB_WAYS]; /* gpa of the page or region, rights in the low bits */
    } set[STLB_SETS];
    /* Regions that may be covered by large pages, hashed: only there are entries of regions,
     * and only there must INVLPG drop more of the first level than one page. And the addresses
     * that pages of 1 GiB cover, in the lower and the upper half of the address space (empty:
     * first > last). */
    u64 regions[STLB_REGIONS / 64];
    struct {
        u64 first, last;
    } huge[2];
    u32 space;        /* of the current PCID */
    u32 global_space; /* of global translations */
    u32 last_space;   /* given out */
    u32 oldest_space; /* those of PCIDs below it are void */
    u32 next_way;
    u32 space_of[4096]; /* by PCID */
};

static inline unsigned tlb_slot(u64 la)
{
    return (la >> PAGE_SHIFT) & (TLB_SIZE - 1);
}

/* The tag that no address of this slot can match: a page that belongs to another slot. */
static inline u64 tlb_invalid(unsigned slot)
{
    return slot ? 0 : PAGE_SIZE;
}

/* Bits of x86_cpu.attention. The first group is set by other threads, hence atomic. */
#define ATTN_INTR BIT(0) /* the interrupt line is up: LAPIC or 8259 has a vector */
#define ATTN_NMI  BIT(1)
#define ATTN_INIT BIT(2)
#define ATTN_SIPI BIT(3)
#define ATTN_KICK BIT(4) /* leave the engine: the machine wants the vCPU */
#define ATTN_WORK BIT(5) /* cross-vCPU request queued (vcpu.h) */
#define ATTN_STATE                                                                             \
    BIT(6) /* own state: halted, shutdown, debug trap pending, mode changed, code gone: finish \
            * the present instruction, then look */

enum x86_activity { CPU_RUNNING, CPU_HALTED, CPU_WAIT_SIPI, CPU_SHUTDOWN };

struct x86_cpu {
    /* -- Hot: what every instruction touches -------------------------------------------------
     */
    u64 gpr[16];
    u64 rip;
    u64 rflags; /* complete and current after each instruction */
    u64 zero;   /* always 0: what an address without base or index adds, see x86_ea */
    _Atomic u32 attention;
    u8 code_size;  /* 2, 4, 8: default operand mode of CS (derived) */
    u8 stack_size; /* 2, 4, 8: width of SP (derived) */
    u8 cpl;        /* derived: SS.DPL; 3 in virtual-8086 mode, 0 in real mode */
    u8 tlb_index;  /* derived from CPL, AC, CR4.SMAP: the set for ordinary data accesses */
    /*
     * Derived: FLAT_READ and FLAT_WRITE where an access through the segment needs no check but
     * the TLB's: then linear = offset + flat_base (offset already cut to the address size).
     * Never set while alignment checks or data breakpoints are on: x86_linear_slow looks at
     * those.
     */
    u8 flat[SEG_COUNT];
    u64 flat_base[SEG_COUNT];
    struct x86_reach reach[SEG_COUNT];
    struct x86_seg seg[SEG_COUNT];
    struct x86_tlb tlb[TLB_SETS];
    struct x86_tlb_use tlb_use;
    struct x86_stlb stlb;

    /* -- Vector state ------------------------------------------------------------------------
     */
    struct x86_fpu fpu;
    u16 fcs,
        fds; /* selectors of the last x87 instruction and operand: 32-bit images hold them */

    /* -- System ------------------------------------------------------------------------------
     */
    struct x86_table gdtr, idtr;
    u64 cr0, cr2, cr3, cr4; /* cr8 is the LAPIC's TPR, behind ops */
    u64 pdpte[4];           /* PAE: loaded with CR3 */
    u64 xcr0;
    u64 dr[4], dr6, dr7;
    u64 efer, star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, tsc_aux, tsc_offset, tsc_adjust, xss, misc_enable, misc_features, debugctl;
    u64 spec_ctrl;
    u64 hwcr, syscfg, mcg_status, mcg_ctl, mc_ctl[8], mc_addr[8], mc_misc[8];
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_var[16];

    enum x86_activity activity;
    bool nmi_blocked; /* from delivery of an NMI to the next IRET */
    bool sti_shadow;  /* interrupts wait for one instruction (STI) */
    bool ss_shadow; /* interrupts, NMI and debug traps wait for one instruction (MOV SS, POP SS)
                     */
    bool no_step;   /* the instruction just done swallows its single-step trap: interrupt.h */
    bool smi_blocked;
    u64 pending_db; /* DR6 bits of debug traps met by the instruction in progress; #DB after it
                     */

    /* -- The instruction in progress ----------------------------------------------------------
     */
    u64 insn_rip;    /* its first byte; a fault returns here */
    jmp_buf *unwind; /* where x86_raise goes */
    struct {
        u8 vector;
        bool has_error;
        u32 error;
        u64 cr2; /* for #PF */
    } fault;     /* what x86_raise left */

    /* -- Wiring ------------------------------------------------------------------------------
     */
    const struct x86_ops *ops;
    const struct x86_model *model; /* CPUID and feature set; shared, const */
    u32 apic_id;                   /* initial APIC id, in CPUID's topology leaves */
    bool apic_off; /* disabled in MSR_APIC_BASE: CPUID shows none (SDM vol. 3, 10.4.3) */
    struct log *log;
    u64 insns; /* instructions retired by semantics in C (statistics) */
};

/* -- Faults (SDM vol. 3, chapter 6) -------------------------------------------------------- */

/* Ends the instruction in progress with an exception; unwinds to c->unwind. */
_Noreturn void x86_raise(struct x86_cpu *c, enum x86_vector vector);
_Noreturn void x86_raise_error(struct x86_cpu *c, enum x86_vector vector, u32 error);
_Noreturn void x86_raise_pf(struct x86_cpu *c, struct gva la, u32 error);

/* Ends the instruction in progress without an exception: it will be tried again. Unwinds, and
 * x86_deliver_fault() then delivers nothing. */
_Noreturn void x86_retry(struct x86_cpu *c);
#define X86_FAULT_RETRY 0xff /* in fault.vector */

/* Recomputes the derived fields after CS, SS, CR0, CR4, EFER or RFLAGS.VM/AC changed by other
 * means than the setters below, as when a state is loaded. */
void x86_derive(struct x86_cpu *c);

/*
 * Power-on and INIT state (SDM vol. 3, table 9-1); INIT keeps vector state, MSRs such as MTRRs,
 * and CR0.CD/NW. Reset leaves the processor running at FFFFFFF0h, INIT waiting for a start-up
 * IPI: the machine, which knows the bootstrap processor, sets `activity` otherwise.
 */
void x86_reset(struct x86_cpu *c);
void x86_init(struct x86_cpu *c);
/* Start-up IPI: real mode at vector << 12. */
void x86_sipi(struct x86_cpu *c, u8 vector);

/* Writes of RFLAGS that keep derived fields right: `mask` says which bits of `value` count. */
static inline bool x86_long_mode(const struct x86_cpu *c)
{
    return c->efer & EFER_LMA;
}
static inline bool x86_protected(const struct x86_cpu *c)
{
    return c->cr0 & CR0_PE;
}
static inline bool x86_v86(const struct x86_cpu *c)
{
    return c->rflags & FLAG_VM;
}
static inline bool x86_64bit(const struct x86_cpu *c)
{
    return c->code_size == 8;
}

/* What a segment adds to an offset; in 64-bit mode only FS and GS have bases. */
static inline u64 x86_seg_base(const struct x86_cpu *c, unsigned seg)
{
    return x86_64bit(c) && seg < SEG_FS ? 0 : c->seg[seg].base;
}
static inline bool x86_real(const struct x86_cpu *c)
{
    return !(c->cr0 & CR0_PE);
}
static inline unsigned x86_iopl(const struct x86_cpu *c)
{
    return (c->rflags >> 12) & 3;
}

/* Own-thread attention: look after this instruction. */
static inline void x86_attend(struct x86_cpu *c)
{
    atomic_fetch_or_explicit(&c->attention, ATTN_STATE, memory_order_relaxed);
}
