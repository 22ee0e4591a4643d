/* One-instruction wrappers and the names of the bits, as in the manuals. */
#pragma once
#include "types.h"

enum vector {
    DE,
    DB,
    NMI,
    BP,
    OF,
    BR,
    UD,
    NM,
    DF,
    TS = 10,
    NP,
    SS,
    GP,
    PF,
    MF = 16,
    AC,
    MC,
    XM,
};

#define FLAG_CF   0x1ul
#define FLAG_ZF   0x40ul
#define FLAG_TF   0x100ul
#define FLAG_IF   0x200ul
#define FLAG_DF   0x400ul
#define FLAG_IOPL 0x3000ul
#define FLAG_NT   0x4000ul
#define FLAG_RF   0x10000ul
#define FLAG_VM   0x20000ul
#define FLAG_AC   0x40000ul
#define FLAG_VIF  0x80000ul
#define FLAG_VIP  0x100000ul
#define FLAG_ID   0x200000ul

#define CR0_PE 0x1ul
#define CR0_MP 0x2ul
#define CR0_EM 0x4ul
#define CR0_TS 0x8ul
#define CR0_ET 0x10ul
#define CR0_NE 0x20ul
#define CR0_WP 0x10000ul
#define CR0_AM 0x40000ul
#define CR0_NW 0x20000000ul
#define CR0_CD 0x40000000ul
#define CR0_PG 0x80000000ul

#define CR4_VME        0x1ul
#define CR4_PVI        0x2ul
#define CR4_TSD        0x4ul
#define CR4_DE         0x8ul
#define CR4_PSE        0x10ul
#define CR4_PAE        0x20ul
#define CR4_PGE        0x80ul
#define CR4_PCE        0x100ul
#define CR4_OSFXSR     0x200ul
#define CR4_OSXMMEXCPT 0x400ul
#define CR4_UMIP       0x800ul
#define CR4_FSGSBASE   0x10000ul
#define CR4_PCIDE      0x20000ul
#define CR4_OSXSAVE    0x40000ul
#define CR4_SMEP       0x100000ul
#define CR4_SMAP       0x200000ul

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_PAT = 0x277,
    MSR_TSC_DEADLINE = 0x6e0,
};
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u

#define EFER_SCE 0x1ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define EFER_NXE 0x800ull

struct cpuid {
    u32 a, b, c, d;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;

    asm volatile("cpuid"
                 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
                 : "0"(leaf), "2"(subleaf));
    return r;
}

static inline void outb(u16 port, u8 value)
{
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
static inline void outw(u16 port, u16 value)
{
    asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
static inline void outl(u16 port, u32 value)
{
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
    u8 value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u16 inw(u16 port)
{
    u16 value;

    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u32 inl(u16 port)
{
    u32 value;

    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u64 rdmsr(u32 msr)
{
    u32 low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
    asm volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 rdtsc(void)
{
    u32 low, high;

    asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (u64)high << 32 | low;
}

#define CPU_REGISTER(name)                                                                     \
    static inline ulong read_##name(void)                                                      \
    {                                                                                          \
        ulong value;                                                                           \
                                                                                               \
        asm volatile("mov %%" #name ", %0" : "=r"(value)::"memory");                           \
        return value;                                                                          \
    }                                                                                          \
    static inline void write_##name(ulong value)                                               \
    {                                                                                          \
        asm volatile("mov %0, %%" #name ::"r"(value) : "memory");                              \
    }

CPU_REGISTER(cr0)
CPU_REGISTER(cr2)
CPU_REGISTER(cr3)
CPU_REGISTER(cr4)
#ifdef __x86_64__
CPU_REGISTER(cr8)
#endif
CPU_REGISTER(dr0)
CPU_REGISTER(dr1)
CPU_REGISTER(dr2)
CPU_REGISTER(dr3)
CPU_REGISTER(dr6)
CPU_REGISTER(dr7)

static inline ulong read_flags(void)
{
    ulong value;

    asm volatile("pushf; pop %0" : "=r"(value)::"memory");
    return value;
}

static inline void invlpg(const volatile void *p)
{
    asm volatile("invlpg (%0)" ::"r"(p) : "memory");
}
static inline void cpu_relax(void)
{
    asm volatile("pause" ::: "memory");
}
static inline void irq_enable(void)
{
    asm volatile("sti" ::: "memory");
}
static inline void irq_disable(void)
{
    asm volatile("cli" ::: "memory");
}

/* Enables interrupts for a moment: STI's shadow ends after the first NOP. */
static inline void irq_window(void)
{
    asm volatile("sti; nop; nop; cli" ::: "memory");
}

/* Sleeps until an interrupt, with no gap between STI and HLT. */
static inline void irq_wait(void)
{
    asm volatile("sti; hlt; cli" ::: "memory");
}

static inline bool cpu_is_intel(void)
{
    return cpuid(0, 0).b == 0x756e6547;
}
