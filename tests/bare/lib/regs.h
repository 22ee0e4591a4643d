/*
 * The one primitive of the tests: load a whole register state, run code in it at any privilege
 * and mode, and get the whole state back at the first exception, or at `int 0x40`, which ends
 * each piece of code.
 */
#pragma once
#include "types.h"
#include "cpu.h"
#include "check.h"

/* The selectors of the global descriptor table that cpu_init() loads. */
enum selector {
    KCODE = 0x08, /* ring 0 code of the kernel's own mode */
    KDATA = 0x10,
    UCODE32 = 0x1b, /* the order from here on is what SYSRET and SYSEXIT want */
    UDATA = 0x23,
    UCODE64 = 0x2b,
    UDATA64 = 0x33, /* SS after SYSEXIT to 64-bit code */
    KCODE32 = 0x38,
    KCODE16 = 0x40,
    KDATA16 = 0x48,
    KTSS = 0x50,
    FREE = 0x60, /* the first of the descriptors that a test may set */
#ifdef __x86_64__
    UCODE = UCODE64,
#else
    UCODE = UCODE32,
#endif
};

enum { VECTOR_END = 0x40 };

/* The layout is known to stub64.S and stub32.S. */
struct regs {
    ulong gs, fs, es, ds;
#ifdef __x86_64__
    ulong r15, r14, r13, r12, r11, r10, r9, r8;
    ulong di, si, bp, bx, dx, cx, ax;
#else
    ulong di, si, bp, unused, bx, dx, cx, ax;
#endif
    ulong vector, error;
    ulong ip, cs, flags, sp, ss;
    ulong cr2; /* as it was when the exception came */
};

/*
 * A piece of code, written in Intel syntax. `at` is the instruction of interest, `end` the
 * `int 0x40` after it.
 */
struct code {
    const char *start, *at, *end;
};

#ifdef __x86_64__
#define CODE_ADDRESS(label) "lea " label "(%%rip), "
#define CODE_BITS           ".code64"
#else
#define CODE_ADDRESS(label) "mov $" label ", "
#define CODE_BITS           ".code32"
#endif

#define CODE_IN(bits, before, text)                                                            \
    ({                                                                                         \
        struct code code_;                                                                     \
                                                                                               \
        asm volatile(                                                                          \
            ".pushsection .code, \"ax\"\n\t.intel_syntax noprefix\n\t" bits "\n661: " before   \
            "\n662: " text "\n663: int 0x40\n\t" CODE_BITS                                     \
            "\n\t.att_syntax prefix\n\t.popsection\n\t" CODE_ADDRESS(                          \
                "661b") "%0\n\t" CODE_ADDRESS("662b") "%1\n\t" CODE_ADDRESS("663b") "%2"       \
            : "=r"(code_.start), "=r"(code_.at), "=r"(code_.end));                             \
        code_;                                                                                 \
    })

#define CODE(text)          CODE_IN(CODE_BITS, "", text)
#define CODE2(before, text) CODE_IN(CODE_BITS, before, text)
#define CODE16(text)        CODE_IN(".code16", "", text)
#define CODE32(text)        CODE_IN(".code32", "", text)

/* Where ring 3 sees physical memory: page tables map all of it there once more, as user
 * pages. */
#ifdef __x86_64__
#define USER_BASE 0x80000000ul
#else
#define USER_BASE user_base
extern ulong user_base; /* 0 while paging is off */
#endif

/* A state with flat segments, interrupts off and a stack of its own. */
struct regs regs_kernel(void);
struct regs regs_user(void);

/* Runs from r->ip on; leaves the state at the exception in *r. Interrupts are off
 * afterwards. */
void regs_run(struct regs *r);

/* Runs `code`, and checks that it ends by itself. *r is changed as by regs_run(). */
bool expect_done_at(const char *file, int line, const char *name, struct regs *r,
                    struct code code);

/* Runs `code`; it must fault at code.at with this vector and error code (0 where there is
 * none). */
bool expect_fault_at(const char *file, int line, const char *name, struct regs *r,
                     struct code code, unsigned vector, ulong error);

/* Runs `code`; it must trap with this vector after code.at, at code.end. */
bool expect_trap_at(const char *file, int line, const char *name, struct regs *r,
                    struct code code, unsigned vector);

#define expect_done(name, r, code) expect_done_at(__FILE_NAME__, __LINE__, name, r, code)
#define expect_fault(name, r, code, vector, error)                                             \
    expect_fault_at(__FILE_NAME__, __LINE__, name, r, code, vector, error)
#define expect_trap(name, r, code, vector)                                                     \
    expect_trap_at(__FILE_NAME__, __LINE__, name, r, code, vector)

/* The same in ring 0 with RAX, RCX and RDX given: what most instructions need. */
#define fault0(name, code, vector, error)                                                      \
    ({                                                                                         \
        struct regs r_ = regs_kernel();                                                        \
        expect_fault(name, &r_, code, vector, error);                                          \
    })
#define done0(name, code)                                                                      \
    ({                                                                                         \
        struct regs r_ = regs_kernel();                                                        \
        expect_done(name, &r_, code);                                                          \
    })

/* RDMSR and WRMSR that survive: the vector, or VECTOR_END when the access went well. */
unsigned rdmsr_safe(u32 msr, u64 *value);
unsigned wrmsr_safe(u32 msr, u64 value);

/* Writes to control registers that survive. */
unsigned write_cr0_safe(ulong value);
unsigned write_cr3_safe(ulong value);
unsigned write_cr4_safe(ulong value);
