/*
 * The local APIC: registers, priorities, self IPIs, error status, spurious interrupts, NMIs,
 * base address register, and the x2APIC registers with their faults (SDM 3A chapter 10).
 */
#include "lib/apic.h"
#include "lib/page.h"
#include "lib/system.h"

static volatile u32 count[256];
static volatile u8 order[16];
static volatile u32 ordered;

static void on_interrupt(struct regs *r)
{
    count[r->vector]++;
    if (ordered < COUNT(order))
        order[ordered++] = r->vector;
    apic_eoi();
}

static void on_spurious(struct regs *r)
{
    count[r->vector]++;
}

static void reset_counts(void)
{
    for (unsigned v = 0; v < 256; v++)
        count[v] = 0;
    ordered = 0;
}

static void self(u32 command)
{
    apic_ipi(apic_id(), command | ICR_ASSERT);
}

static void open_window(void)
{
    for (unsigned n = 0; n < 20; n++)
        irq_window();
}

static void register_rules(void)
{
    struct regs r = regs_kernel();

    if (skip_tcg("reserved bits of the registers", "QEMU stores them"))
        return;
    r.ax = 16;
    expect_fault("CR8 above 15", &r, CODE("mov cr8, rax"), GP, 0);
    apic_write(APIC_LVT_TIMER, 0xffffffff);
    check_equal("timer entry's bits", apic_read(APIC_LVT_TIMER) & ~0x41000u, 0x300ff);
    apic_write(APIC_LVT_TIMER, LVT_MASKED);
    apic_write(APIC_SVR, 0xff); /* software disable masks the table */
    check("disabled: entries are masked", apic_read(APIC_LVT_LINT0) & LVT_MASKED);
    apic_write(APIC_LVT_LINT0, 0x700);
    check("and stay masked", apic_read(APIC_LVT_LINT0) & LVT_MASKED);
}

static void registers(void)
{
    u32 version = apic_read(APIC_VERSION);

    check("version 1x", (version & 0xff) >= 0x10 && (version & 0xff) < 0x20);
    check("at least 6 entries", (version >> 16 & 0xff) >= 5);
    check_equal("APIC id", apic_id(), 0);
    check_equal("id as CPUID says", cpuid(1, 0).b >> 24, 0);
    apic_write(APIC_TPR, 0xab);
    check_equal("TPR", apic_read(APIC_TPR), 0xab);
    check_equal("PPR follows", apic_read(APIC_PPR), 0xab);
    check_equal("CR8 follows", read_cr8(), 0xa);
    write_cr8(5);
    check_equal("TPR follows CR8", apic_read(APIC_TPR), 0x50);
    write_cr8(0);
    register_rules();
    apic_write(APIC_SVR, SVR_ENABLE | 0xff);
    apic_write(APIC_LVT_LINT0, 0x700);
    check_equal("enabled: may be unmasked", apic_read(APIC_LVT_LINT0) & LVT_MASKED, 0);
    apic_write(APIC_LVT_LINT0, LVT_MASKED);
}

static void xapic_registers(void)
{
    apic_write(APIC_LDR, 0x12345678);
    check_equal("LDR has 8 bits", apic_read(APIC_LDR), 0x12000000);
    apic_write(APIC_DFR, 0);
    check_equal("DFR: ones below", apic_read(APIC_DFR), 0x0fffffff);
    apic_write(APIC_DFR, 0xffffffff);
    check_equal("DFR", apic_read(APIC_DFR), 0xffffffff);
    apic_write(APIC_ICR_HIGH, 0xff000000);
    check_equal("ICR high", apic_read(APIC_ICR_HIGH), 0xff000000);
    apic_write(APIC_VERSION, 0);
    check("the version is read-only", apic_read(APIC_VERSION) != 0);
}

static void self_ipis(void)
{
    reset_counts();
    self(0x51);
    check("pending in IRR", apic_bit(APIC_IRR, 0x51));
    check("not in service", !apic_bit(APIC_ISR, 0x51));
    check_equal("not taken with IF clear", count[0x51], 0);
    open_window();
    check_equal("taken once", count[0x51], 1);
    check("IRR clear", !apic_bit(APIC_IRR, 0x51));
    check("ISR clear after EOI", !apic_bit(APIC_ISR, 0x51));
    check("edge: TMR clear", !apic_bit(APIC_TMR, 0x51));
    reset_counts();
    self(0x51);
    self(0x51);
    open_window();
    check_equal("two of one vector while pending are one", count[0x51], 1);
    reset_counts();
    self(0x52);
    self(0x93);
    self(0x71);
    self(0x72);
    open_window();
    check_equal("all taken", ordered, 4);
    check_equal("by priority 1", order[0], 0x93);
    check_equal("by priority 2", order[1], 0x72);
    check_equal("by priority 3", order[2], 0x71);
    check_equal("by priority 4", order[3], 0x52);
    reset_counts();
    apic_ipi(0, ICR_SELF | ICR_ASSERT | 0x54);
    open_window();
    check_equal("shorthand self", count[0x54], 1);
    apic_ipi(0, ICR_ALL | ICR_ASSERT | 0x55);
    open_window();
    check_equal("shorthand all", count[0x55], 1);
    apic_ipi(0, ICR_OTHERS | ICR_ASSERT | 0x56);
    open_window();
    check_equal("shorthand others, alone", count[0x56], 0);
    apic_ipi(apic_is_x2() ? 0xffffffff : 0xff, ICR_ASSERT | 0x57);
    open_window();
    check_equal("broadcast destination", count[0x57], 1);
    apic_ipi(5, ICR_ASSERT | 0x58);
    open_window();
    check_equal("a destination that is not there", count[0x58], 0);
}

static void priorities(void)
{
    reset_counts();
    apic_write(APIC_TPR, 0x50);
    self(0x52);
    open_window();
    check_equal("class equal to TPR waits", count[0x52], 0);
    self(0x61);
    open_window();
    check_equal("class above TPR", count[0x61], 1);
    write_cr8(4);
    open_window();
    check_equal("lowering CR8 lets it through", count[0x52], 1);
    write_cr8(15);
    self(0xfe);
    open_window();
    check_equal("TPR 0xf0 blocks all", count[0xfe], 0);
    write_cr8(0);
    open_window();
    check_equal("until lowered", count[0xfe], 1);
    apic_write(APIC_TPR, 0);
}

static volatile u32 inner_ppr, inner_nested;

static void on_nesting(struct regs *r)
{
    count[r->vector]++;
    check("in service", apic_bit(APIC_ISR, r->vector));
    inner_ppr = apic_read(APIC_PPR);
    self(0x62); /* same class: must wait */
    irq_window();
    inner_nested = count[0x62];
    self(0x81);
    irq_window();
    check_equal("a higher class comes in between", count[0x81], 1);
    apic_eoi();
}

static void nesting(void)
{
    reset_counts();
    trap_set(0x61, on_nesting);
    self(0x61);
    open_window();
    trap_set(0x61, on_interrupt);
    check_equal("PPR in the handler", inner_ppr, 0x60);
    check_equal("same class waits for EOI", inner_nested, 0);
    check_equal("and comes after it", count[0x62], 1);
    check_equal("PPR after", apic_read(APIC_PPR), 0);
}

static void errors(void)
{
    reset_counts();
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ESR, 0);
    check_equal("ESR clear", apic_read(APIC_ESR), 0);
    if (skip_tcg("error status of an illegal vector", "QEMU 7.2 accepts it"))
        return;
    apic_write(APIC_LVT_ERROR, 0x5e);
    self(0x05);
    apic_write(APIC_ESR, 0);
    check("send or receive illegal vector", apic_read(APIC_ESR) & 0x60);
    open_window();
    check("error interrupt", count[0x5e] >= 1);
    apic_write(APIC_LVT_ERROR, LVT_MASKED | 0x5e);
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ESR, 0);
    check_equal("ESR clear again", apic_read(APIC_ESR), 0);
}

static volatile u32 nmis;

static void on_nmi(struct regs *r)
{
    (void)r;
    nmis++;
}

static volatile u32 nmi_inside;

static void on_nmi_nested(struct regs *r)
{
    (void)r;
    nmis++;
    if (nmis == 1) {
        self(ICR_NMI);
        for (unsigned i = 0; i < 1000; i++)
            cpu_relax();
        nmi_inside = nmis;
    }
}

static void nmi(void)
{
    trap_set(NMI, on_nmi);
    nmis = 0;
    self(ICR_NMI);
    for (unsigned i = 0; i < 1000 && !nmis; i++)
        cpu_relax();
    check_equal("NMI is taken with IF clear", nmis, 1);
    self(ICR_NMI | 0xff);
    for (unsigned i = 0; i < 1000 && nmis < 2; i++)
        cpu_relax();
    check_equal("the vector of an NMI does not matter", nmis, 2);
    trap_set(NMI, on_nmi_nested);
    nmis = 0;
    self(ICR_NMI);
    for (unsigned i = 0; i < 1000 && nmis < 2; i++)
        cpu_relax();
    check_equal("an NMI inside the handler waits", nmi_inside, 1);
    check_equal("for the IRET", nmis, 2);
    trap_set(NMI, NULL);
}

/* An exception's IRET inside the NMI handler ends the blocking (SDM 3A 6.7.1). */
static volatile u32 nmi_after_iret;

static void on_breakpoint(struct regs *r)
{
    (void)r;
}

static void on_nmi_iret(struct regs *r)
{
    (void)r;
    nmis++;
    if (nmis == 1) {
        self(ICR_NMI);
        asm volatile("int3");
        for (unsigned i = 0; i < 1000; i++)
            cpu_relax();
        nmi_after_iret = nmis;
    }
}

static void nmi_unblocked(void)
{
    idt_set_ist(BP, 0);
    idt_set_ist(NMI, 0);
    trap_set(BP, on_breakpoint);
    trap_set(NMI, on_nmi_iret);
    nmis = 0;
    self(ICR_NMI);
    for (unsigned i = 0; i < 1000; i++)
        cpu_relax();
    check_equal("IRET of an exception ends NMI blocking", nmi_after_iret, 2);
    trap_set(BP, NULL);
    trap_set(NMI, NULL);
    idt_set_ist(BP, 1);
    idt_set_ist(NMI, 1);
}

/* One that waits comes before the first instruction that an IRET in the handler goes to. */
extern const u8 iret_target[];
static ulong second_at;

static void on_nmi_jumping(struct regs *r)
{
    if (++nmis > 1) {
        second_at = r->ip;
        return;
    }
    self(ICR_NMI);
    asm volatile("mov %%rsp, %%rdx\n\t mov %%ss, %%ecx\n\t push %%rcx\n\t push %%rdx\n\t"
                 "pushfq\n\t mov %%cs, %%ecx\n\t push %%rcx\n\t"
                 "lea iret_target(%%rip), %%rcx\n\t push %%rcx\n\t iretq\n\t"
                 ".globl iret_target\n iret_target: nop" ::
                     : "rcx", "rdx", "memory");
}

static void nmi_behind_iret(void)
{
    idt_set_ist(NMI, 0);
    trap_set(NMI, on_nmi_jumping);
    nmis = 0;
    second_at = 0;
    self(ICR_NMI);
    for (unsigned i = 0; i < 1000 && nmis < 2; i++)
        cpu_relax();
    check_equal("both", nmis, 2);
    check_equal("the second right behind IRET", second_at, (ulong)iret_target);
    trap_set(NMI, NULL);
    idt_set_ist(NMI, 1);
}

/* The shadow of STI: no interrupt before the end of the next instruction. */
static void shadows(void)
{
    struct regs r;
    struct code code = CODE2("sti", "nop; nop; nop; cli");

    trap_set(0x51, NULL);
    self(0x51);
    r = regs_kernel();
    r.ip = (ulong)code.start;
    regs_run(&r);
    apic_eoi();
    check_equal("interrupt after sti", r.vector, 0x51);
    check_equal("after one more instruction", r.ip, (ulong)code.at + 1);
    self(0x51);
    code = CODE2("sti", "cli; nop");
    r = regs_kernel();
    expect_done("sti; cli lets nothing through", &r, code);
    code = CODE2("sti", "int 0x40");
    r = regs_kernel();
    r.ip = (ulong)code.start;
    regs_run(&r);
    check_equal("INT in the shadow of sti comes first", r.vector, VECTOR_END);
    check("the interrupt waits", apic_bit(APIC_IRR, 0x51));
    code = CODE2("sti", "hlt; cli");
    r = regs_kernel();
    r.ip = (ulong)code.start;
    regs_run(&r);
    apic_eoi();
    check_equal("sti; hlt wakes", r.vector, 0x51);
    check_equal("behind the hlt", r.ip, (ulong)code.at + 1);
    self(0x51);
    code = CODE2("mov ecx, ss; pushfq; or dword ptr [rsp], 0x200; popfq", "nop; cli");
    r = regs_kernel();
    r.ip = (ulong)code.start;
    regs_run(&r);
    apic_eoi();
    check_equal("popf has no shadow", r.ip, (ulong)code.at);
    self(0x51);
    code = CODE2("mov ecx, ss; mov ss, ecx", "nop; nop; cli");
    r = regs_kernel();
    r.flags |= FLAG_IF;
    r.ip = (ulong)code.start;
    regs_run(&r);
    apic_eoi();
    check_equal("IRET with IF: at once", r.ip, (ulong)code.start);
    trap_set(0x51, on_interrupt);
}

/* Without its registers in memory: all ones there, and CR8 is still the priority. */
static void hidden(const char *mode)
{
    volatile u32 *page = (volatile u32 *)APIC_DEFAULT;

    print("     %s\n", mode);
    for (unsigned i = 0; i < 1024; i++)
        page[i] = 0xffffffff;
    check_equal("no version in memory", page[APIC_VERSION / 4], 0xffffffff);
    check_equal("CR8 was not written", read_cr8(), 0);
    write_cr8(15);
    check_equal("CR8", read_cr8(), 15);
    check_equal("no TPR in memory", page[APIC_TPR / 4], 0xffffffff);
    write_cr8(0);
}

static void moved(u64 base)
{
    u32 version = apic_read(APIC_VERSION);
    volatile u32 *page = (volatile u32 *)0xfed40000ul;

    check_equal("not there yet", page[APIC_VERSION / 4], 0xffffffff);
    wrmsr(MSR_APIC_BASE, 0xfed40000ul | APIC_BASE_BSP | APIC_BASE_ENABLE);
    check_equal("registers at another address", page[APIC_VERSION / 4], version);
    check_equal("and not where they were", *(volatile u32 *)(APIC_DEFAULT + APIC_VERSION),
                0xffffffff);
    wrmsr(MSR_APIC_BASE, base);
    check_equal("back", apic_read(APIC_VERSION), version);
    check_equal("not there any more", page[APIC_VERSION / 4], 0xffffffff);
}

static void base_register(void)
{
    u64 base = rdmsr(MSR_APIC_BASE);
    unsigned width = cpuid(0x80000008, 0).a & 0xff;

    check("bootstrap processor", base & APIC_BASE_BSP);
    check("enabled", base & APIC_BASE_ENABLE);
    check_equal("address", base & ~0xfffull, APIC_DEFAULT);
    if (skip_tcg("faults of the base register", "QEMU ignores reserved bits and transitions"))
        return;
    check_equal("reserved bit 0", wrmsr_safe(MSR_APIC_BASE, base | 1), GP);
    check_equal("reserved bit 9", wrmsr_safe(MSR_APIC_BASE, base | 0x200), GP);
    if (width < 52)
        check_equal("address too wide", wrmsr_safe(MSR_APIC_BASE, base | BIT(width)), GP);
    check_equal("x2APIC without enable",
                wrmsr_safe(MSR_APIC_BASE, (base & ~APIC_BASE_ENABLE) | APIC_BASE_X2), GP);
    check_equal("disable", wrmsr_safe(MSR_APIC_BASE, base & ~APIC_BASE_ENABLE), VECTOR_END);
    check_equal("CPUID shows no APIC", cpuid(1, 0).d >> 9 & 1, 0);
    hidden("disabled");
    if (apic_has_x2())
        check_equal("from disabled to x2APIC",
                    wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_ENABLE | APIC_BASE_X2), GP);
    check_equal("enable again", wrmsr_safe(MSR_APIC_BASE, base), VECTOR_END);
    check_equal("CPUID shows it again", cpuid(1, 0).d >> 9 & 1, 1);
    check_equal("TPR", apic_read(APIC_TPR), 0);
    moved(base);
    apic_init();
    reset_counts();
    self(0x51);
    open_window();
    check_equal("works again", count[0x51], 1);
}

/* Every register while the mode is off; and no bit pattern is good for all bits of one. */
static void x2apic_faults(bool on)
{
    u64 value;

    for (u32 reg = 0x800; reg < 0x900; reg++) {
        if (!on) {
            check_equal("read while off", rdmsr_safe(reg, &value), GP);
            check_equal("write while off", wrmsr_safe(reg, 0), GP);
        }
        if (!on || reg != 0x830)
            check_equal("ones", wrmsr_safe(reg, -1ull), GP);
        if (on && reg >= 0x840)
            check_equal("read behind the last", rdmsr_safe(reg, &value), GP);
        if (on && rdmsr_safe(reg, &value) == VECTOR_END)
            check_equal("upper half", value >> 32, 0);
    }
}

static void x2apic(void)
{
    u64 base = rdmsr(MSR_APIC_BASE), value;
    static const u32 absent[] = {0x800, 0x801, 0x804, 0x809, 0x80c,
                                 0x80e, 0x831, 0x83a, 0x83d, 0x840};

    if (!apic_has_x2()) {
        if (skip_tcg("x2APIC", "QEMU 7.2 lacks it"))
            return;
        check_equal("x2APIC without it", wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_X2), GP);
        return;
    }
    x2apic_faults(false);
    apic_enter_x2();
    hidden("x2APIC");
    x2apic_faults(true);
    check_equal("id", rdmsr(0x802), 0);
    check_equal("LDR from the id", rdmsr(0x80d), 1);
    for (unsigned i = 0; i < COUNT(absent); i++) {
        if (!check_equal("absent register", rdmsr_safe(absent[i], &value), GP))
            print("     %x\n", absent[i]);
        check_equal("absent register", wrmsr_safe(absent[i], 0), GP);
    }
    check_equal("id is read-only", wrmsr_safe(0x802, 0), GP);
    check_equal("version is read-only", wrmsr_safe(0x803, 0), GP);
    check_equal("PPR is read-only", wrmsr_safe(0x80a, 0), GP);
    check_equal("LDR is read-only", wrmsr_safe(0x80d, 0), GP);
    check_equal("ISR is read-only", wrmsr_safe(0x810, 0), GP);
    check_equal("current count is read-only", wrmsr_safe(0x839, 0), GP);
    check_equal("EOI is write-only", rdmsr_safe(0x80b, &value), GP);
    check_equal("self IPI is write-only", rdmsr_safe(0x83f, &value), GP);
    check_equal("EOI of anything but 0", wrmsr_safe(0x80b, 1), GP);
    check_equal("ESR of anything but 0", wrmsr_safe(0x828, 1), GP);
    check_equal("TPR reserved bits", wrmsr_safe(0x808, 0x100), GP);
    check_equal("SVR reserved bits", wrmsr_safe(0x80f, BIT(31)), GP);
    check_equal("divide reserved bits", wrmsr_safe(0x83e, 0x10), GP);
    check_equal("LVT reserved bits", wrmsr_safe(0x832, BIT(31)), GP);
    check_equal("upper half of a 32-bit register", wrmsr_safe(0x808, BIT(32)), GP);
    check_equal("self IPI reserved bits", wrmsr_safe(0x83f, 0x100), GP);
    check_equal("ICR reserved bits", wrmsr_safe(0x830, BIT(20)), GP);
    reset_counts();
    wrmsr(0x83f, 0x53);
    check("self IPI in IRR", apic_bit(APIC_IRR, 0x53));
    open_window();
    check_equal("self IPI", count[0x53], 1);
    wrmsr(0x830, (u64)1 << 32 | ICR_LOGICAL | ICR_ASSERT | 0x54);
    open_window();
    check_equal("logical destination", count[0x54], 1);
    check_equal("ICR reads back", rdmsr(0x830) & ~0x1000ull,
                (u64)1 << 32 | ICR_LOGICAL | ICR_ASSERT | 0x54);
    self_ipis();
    priorities();
    check_equal("back to xAPIC directly", wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_ENABLE),
                GP);
    check_equal("off", wrmsr_safe(MSR_APIC_BASE, base & ~APIC_BASE_ENABLE), VECTOR_END);
    check_equal("x2APIC registers while disabled", rdmsr_safe(0x802, &value), GP);
    check_equal("xAPIC", wrmsr_safe(MSR_APIC_BASE, base), VECTOR_END);
    apic_init();
}

static void logical(void)
{
    apic_write(APIC_DFR, 0xffffffff);
    apic_write(APIC_LDR, 0x04000000);
    reset_counts();
    apic_ipi(0x0c, ICR_LOGICAL | ICR_ASSERT | 0x51);
    open_window();
    check_equal("flat logical, bit set", count[0x51], 1);
    apic_ipi(0x0b, ICR_LOGICAL | ICR_ASSERT | 0x51);
    open_window();
    check_equal("flat logical, bit clear", count[0x51], 1);
    apic_write(APIC_DFR, 0x0fffffff);
    apic_write(APIC_LDR, 0x24000000);
    apic_ipi(0x2c, ICR_LOGICAL | ICR_ASSERT | 0x52);
    open_window();
    check_equal("cluster logical", count[0x52], 1);
    apic_ipi(0x1c, ICR_LOGICAL | ICR_ASSERT | 0x52);
    open_window();
    check_equal("another cluster", count[0x52], 1);
    apic_write(APIC_DFR, 0xffffffff);
    apic_ipi(0xff, ICR_LOGICAL | ICR_LOWEST | ICR_ASSERT | 0x53);
    open_window();
    check_equal("lowest priority", count[0x53], 1);
}

void test(void)
{
    for (unsigned v = 0x50; v < 0xff; v++)
        trap_set(v, on_interrupt);
    trap_set(0xff, on_spurious);
    apic_init();
    registers();
    xapic_registers();
    self_ipis();
    priorities();
    nesting();
    errors();
    nmi();
    nmi_unblocked();
    nmi_behind_iret();
    shadows();
    logical();
    base_register();
    x2apic();
}
