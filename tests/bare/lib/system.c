/* Descriptor tables, exception dispatch and the start of C. */
#include "system.h"
#include "pit.h"

struct gate idt[256] __attribute__((aligned(4096)));
u32 boot_magic, boot_info;

/* Each begins with a pointer to its processor. */
enum stack { STACK_C, STACK_RING0, STACK_IST, STACK_CODE, STACK_USER, STACKS };
u8 boot_stack[CPUS][STACKS][STACK_SIZE] __attribute__((aligned(STACK_SIZE)));

static struct cpu cpus[CPUS] __attribute__((aligned(64)));
static trap_handler *handlers[256];
#ifndef __x86_64__
ulong user_base;
#endif

#ifdef __x86_64__
u64 ap_stacks[CPUS]; /* for start64.S, by the order of arrival */
#endif

extern const char trap_stubs[];
void run_enter(struct regs *r, ulong *saved_sp);
void run_leave(ulong saved_sp) __attribute__((noreturn));

struct cpu *cpu_this(void)
{
#ifdef __x86_64__
    ulong sp;

    asm volatile("mov %%rsp, %0" : "=r"(sp));
    return *(struct cpu **)(sp & ~(ulong)(STACK_SIZE - 1));
#else
    return &cpus[0]; /* one processor, and any stack */
#endif
}

struct cpu *cpu_by_index(u32 index)
{
    return &cpus[index];
}

static ulong stack_top(u32 cpu, enum stack n)
{
    return (ulong)boot_stack[cpu][n] + STACK_SIZE;
}

ulong stack_code(void)
{
    return stack_top(cpu_this()->index, STACK_CODE);
}

ulong stack_user(void)
{
    return stack_top(cpu_this()->index, STACK_USER);
}

u64 segment(u32 base, u32 limit, u32 attributes)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attributes & 0xff) << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)(attributes >> 12 & 15) << 52 |
           (u64)(base >> 24) << 56;
}

void gdt_set(u16 selector, u64 descriptor)
{
    *(volatile u64 *)&cpu_this()->gdt[selector >> 3] = descriptor;
}

u64 gdt_get(u16 selector)
{
    return *(volatile u64 *)&cpu_this()->gdt[selector >> 3];
}

struct gate gate_make(u16 selector, const void *target, unsigned type, unsigned dpl)
{
    ulong at = (ulong)target;
    struct gate g;

    g.low = (at & 0xffff) | (u64)selector << 16 | (u64)(0x80 | dpl << 5 | type) << 40 |
            (u64)(at >> 16 & 0xffff) << 48;
#ifdef __x86_64__
    g.high = at >> 32;
#endif
    return g;
}

void idt_load(u16 limit)
{
    struct table_register r = {limit, (ulong)idt};

    asm volatile("lidt %0" ::"m"(r));
}

void idt_set_ist(u8 vector, unsigned ist)
{
    idt[vector].low = (idt[vector].low & ~(7ull << 32)) | (u64)ist << 32;
}

static void idt_fill(void)
{
    for (unsigned v = 0; v < 256; v++) {
        bool open = v == BP || v == OF || v == VECTOR_END;

        idt[v] = gate_make(KCODE, trap_stubs + 16 * v, GATE_INTERRUPT, open ? 3 : 0);
#ifdef __x86_64__
        if (v < 32 || v == VECTOR_END)
            idt_set_ist(v, 1);
#endif
    }
}

void tss_set_stack(ulong sp)
{
    u32 *tss = cpu_this()->tss;

    tss[1] = sp;
#ifdef __x86_64__
    tss[2] = sp >> 32;
#else
    tss[2] = KDATA;
#endif
}

ulong tss_stack(void)
{
#ifdef __x86_64__
    return cpu_this()->tss[1] | (u64)cpu_this()->tss[2] << 32;
#else
    return cpu_this()->tss[1];
#endif
}

static void tables_fill(struct cpu *cpu)
{
    u64 *gdt = cpu->gdt;
    ulong tss = (ulong)cpu->tss;

#ifdef __x86_64__
    gdt[KCODE / 8] = segment(0, 0xfffff, SEG_CODE | SEG_64 | SEG_4K);
    *(u64 *)&cpu->tss[9] = stack_top(cpu->index, STACK_IST);
    gdt[KTSS / 8 + 1] = tss >> 32;
#else
    gdt[KCODE / 8] = segment(0, 0xfffff, SEG_CODE | SEG_32 | SEG_4K);
#endif
    gdt[KDATA / 8] = segment(0, 0xfffff, SEG_DATA | SEG_32 | SEG_4K);
    gdt[UCODE32 / 8] = segment(0, 0xfffff, SEG_CODE | SEG_DPL3 | SEG_32 | SEG_4K);
    gdt[UDATA / 8] = segment(0, 0xfffff, SEG_DATA | SEG_DPL3 | SEG_32 | SEG_4K);
    gdt[UCODE64 / 8] = segment(0, 0xfffff, SEG_CODE | SEG_DPL3 | SEG_64 | SEG_4K);
    gdt[UDATA64 / 8] = gdt[UDATA / 8];
    gdt[KCODE32 / 8] = segment(0, 0xfffff, SEG_CODE | SEG_32 | SEG_4K);
    gdt[KCODE16 / 8] = segment(0, 0xffff, SEG_CODE);
    gdt[KDATA16 / 8] = segment(0, 0xffff, SEG_DATA);
    gdt[KTSS / 8] = segment(tss, 103, 0x89);
    ((u16 *)cpu->tss)[51] = 104; /* I/O map beyond the limit: none */
}

void system_init(u32 index)
{
    struct cpu *cpu = &cpus[index];
    struct table_register gdtr = {sizeof(cpu->gdt) - 1, (ulong)cpu->gdt};

    for (unsigned n = 0; n < STACKS; n++)
        *(struct cpu **)boot_stack[index][n] = cpu;
    cpu->index = index;
    cpu->apic_id = cpuid(1, 0).b >> 24;
    tables_fill(cpu);
    asm volatile("lgdt %0" ::"m"(gdtr));
#ifdef __x86_64__
    asm volatile("push %0; lea 1f(%%rip), %%rax; push %%rax; lretq; 1:" ::"i"(KCODE)
                 : "rax", "memory");
#else
    asm volatile("ljmp %0, $1f; 1:" ::"i"(KCODE) : "memory");
#endif
    asm volatile(
        "mov %0, %%ds; mov %0, %%es; mov %0, %%ss; mov %1, %%fs; mov %1, %%gs" ::"r"(KDATA),
        "r"(0)
        : "memory");
    asm volatile("ltr %w0" ::"r"(KTSS));
    tss_set_stack(stack_top(index, STACK_RING0));
    idt_load(sizeof(idt) - 1);
    write_cr0((read_cr0() & ~(CR0_EM | CR0_TS | CR0_CD | CR0_NW)) | CR0_MP | CR0_NE);
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
}

void trap_set(u8 vector, trap_handler *handler)
{
    handlers[vector] = handler;
}

static void trap_unexpected(const struct regs *r)
{
    print("FAIL unexpected vector %d error 0x%lx at %lx:%lx flags %lx stack %lx:%lx cr2 %lx\n",
          (int)r->vector, r->error, r->cs, r->ip, r->flags, r->ss, r->sp, r->cr2);
    machine_exit(EXIT_FAIL);
}

/* Completes what the hardware pushed: 32-bit frames differ by mode and privilege. */
static struct regs frame_state(const struct regs *frame)
{
    struct regs r = *frame;

#ifndef __x86_64__
    if (r.flags & FLAG_VM) {
        const ulong *segments = &frame->ss + 1;

        r.es = segments[0];
        r.ds = segments[1];
        r.fs = segments[2];
        r.gs = segments[3];
    } else if (!(r.cs & 3)) {
        r.sp = (ulong)&frame->sp;
        asm volatile("mov %%ss, %0" : "=r"(r.ss));
    }
    r.cs &= 0xffff;
    r.ss &= 0xffff;
    r.ds &= 0xffff;
    r.es &= 0xffff;
    r.fs &= 0xffff;
    r.gs &= 0xffff;
#endif
    r.cr2 = read_cr2();
    return r;
}

void trap_dispatch(struct regs *frame)
{
    struct cpu *cpu = cpu_this();
    struct regs state;

    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    state = frame_state(frame);
    if (!cpu->run)
        trap_unexpected(&state);
    *cpu->run = state;
    cpu->run = NULL;
    run_leave(cpu->run_sp);
}

void regs_run(struct regs *r)
{
    struct cpu *cpu = cpu_this();

    cpu->run = r;
    run_enter(r, &cpu->run_sp);
    asm volatile("" ::: "memory");
}

void bare_main(ulong magic, ulong info)
{
    boot_magic = magic;
    boot_info = info;
    idt_fill();
#ifdef __x86_64__
    for (u32 n = 1; n < CPUS; n++)
        ap_stacks[n - 1] = stack_top(n, STACK_C);
#endif
    system_init(0);
    if (test_before)
        test_before();
    pic_init(0x20);
    test();
    check_done();
}
