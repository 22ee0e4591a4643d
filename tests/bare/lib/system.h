/* The processor's tables as the library sets them up, and interrupt handlers. */
#pragma once
#include "types.h"
#include "regs.h"

enum { CPUS = 8, STACK_SIZE = 0x4000, GDT_ENTRIES = 64 };

/* One processor; found from the stack pointer, so that tests may do what they like with GS. */
struct cpu {
    u32 index;
    u32 apic_id;
    struct regs *run; /* where regs_run() in progress wants the state */
    ulong run_sp;
    u64 gdt[GDT_ENTRIES];
    u32 tss[26 + 2048 + 1]; /* with the I/O permission bitmap, if a test wants it */
    void (*volatile call)(void *);
    void *call_argument;
    volatile bool online, busy;
};

struct cpu *cpu_this(void);
struct cpu *cpu_by_index(u32 index);

/* Tops of the stacks for code under test, in ring 0 and in ring 3 (before USER_BASE). */
ulong stack_code(void);
ulong stack_user(void);

/* Loads descriptor tables, TSS and interrupt table on this processor; switches on SSE. */
void system_init(u32 index);

/* Called instead of ending regs_run(); afterwards the interrupted code goes on. NULL: none. */
typedef void trap_handler(struct regs *r);
void trap_set(u8 vector, trap_handler *handler);

struct table_register {
    u16 limit;
    ulong base;
} __attribute__((packed));

/* Descriptor attributes: bits 40-47 and 52-55 of a segment descriptor as one word. */
enum {
    SEG_DATA = 0x93,
    SEG_CODE = 0x9b,
    SEG_DPL3 = 0x60,
    SEG_32 = 0x4000,
    SEG_64 = 0x2000,
    SEG_4K = 0x8000,
};
u64 segment(u32 base, u32 limit, u32 attributes);

/* Sets a descriptor of this processor's GDT. */
void gdt_set(u16 selector, u64 descriptor);
u64 gdt_get(u16 selector);

/* Gate types */
enum { GATE_INTERRUPT = 0xe, GATE_TRAP = 0xf, GATE_TASK = 0x5, GATE_INTERRUPT16 = 0x6 };

#ifdef __x86_64__
struct gate {
    u64 low, high;
};
#else
struct gate {
    u64 low;
};
#endif

struct gate gate_make(u16 selector, const void *target, unsigned type, unsigned dpl);
extern struct gate idt[256];
void idt_load(u16 limit);

/* Uses the interrupt stack of the TSS for this vector, or the current stack (64-bit only). */
void idt_set_ist(u8 vector, unsigned ist);

/* Sets the stack that exceptions from ring 3 use. */
void tss_set_stack(ulong sp);
ulong tss_stack(void);

/* What multiboot passed. */
extern u32 boot_magic, boot_info;

/* The test itself; each kernel has one. */
void test(void);
/* What a kernel has to look at before the library sets up the interrupt controllers; few have.
 */
void test_before(void) __attribute__((weak));
void bare_main(ulong magic, ulong info);
void ap_main(u32 ticket);
void trap_dispatch(struct regs *frame);
