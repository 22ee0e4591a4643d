/*
 * The devices that conformance suites bring along, pc-testdev and pci-testdev; and device
 * memory as what instructions work on: stack, string, vector, far pointer, page-crossing.
 */
#include "lib/apic.h"
#include "lib/page.h"
#include "lib/system.h"

#define MEMORY            0xff000000ul /* 64 KiB that keeps what is written */
#define CODE_MEMORY(text) CODE("mov rdi, 0xff000000;" text)

static volatile u32 irqs;
static ulong order[2];

static void line(unsigned n, u8 level)
{
    outb((u16)(0x2000 + n), level);
}

static void on_irq(struct regs *r)
{
    order[irqs++ & 1] = r->vector;
    if (irqs == 3) /* or a level would go on for ever */
        line(14, 0);
    apic_eoi();
}

static void ports(void)
{
    outl(0xe0, 0x12345678);
    check_equal("a word of ports", inl(0xe0), 0x12345678);
    check_equal("half of it", inw(0xe2), 0x1234);
    check_equal("by bytes", inb(0xe9), 0x56);
    outb(0xe3, 0xab);
    check_equal("one byte", inl(0xe0), 0xab345678);
    outl(0xe4, 0x1000); /* a flush, without any effect to see */
}

/* An interrupt is there before the instruction after the OUT has ended. */
static void lines(void)
{
    trap_set(0x66, on_irq);
    trap_set(0x77, on_irq);
    apic_init();
    ioapic_set_redirect(14, 0x77);
    ioapic_set_redirect(15, 0x66);
    irq_enable();
    line(14, 1);
    asm volatile("nop");
    check_equal("edge", irqs, 1);
    line(14, 0);
    irq_disable();
    irqs = 0;
    line(15, 1);
    line(15, 0);
    line(14, 1);
    line(14, 0);
    irq_window();
    check_equal("two at once", irqs, 2);
    check_equal("the higher vector first", order[0], 0x77);
    check_equal("then the lower", order[1], 0x66);
    irqs = 0;
    ioapic_set_redirect(14, 0x77 | RTE_LEVEL);
    line(14, 1);
    irq_window();
    check_equal("a level asks again after each EOI until it falls", irqs, 3);
    ioapic_set_redirect(14, RTE_MASKED);
    ioapic_set_redirect(15, RTE_MASKED);
}

/* One line as a level, in ways that depend on the order of line, EOI and entry. */
enum { LEVEL_PIN = 14, LEVEL = 0x98 };
static volatile u32 levels, tmr;
static void (*level_work)(void);

static void on_line(struct regs *r)
{
    levels++;
    tmr = apic_bit(APIC_TMR, r->vector);
    level_work();
    apic_eoi();
}

static void lower(void)
{
    line(LEVEL_PIN, 0);
}

static void again_inside(void)
{
    if (levels == 1) {
        line(LEVEL_PIN, 0);
        line(LEVEL_PIN, 1);
    }
    line(LEVEL_PIN, 0);
}

static void lower_second(void)
{
    if (levels == 2)
        line(LEVEL_PIN, 0);
}

static void mask(void)
{
    ioapic_set_redirect(LEVEL_PIN, LEVEL | RTE_LEVEL | RTE_MASKED);
}

static void redirect(void)
{
    line(LEVEL_PIN, 0);
    ioapic_write(IOAPIC_REDIRECT + 2 * LEVEL_PIN + 1, 7u << 24);
}

static void level(u32 entry, void (*work)(void))
{
    levels = 0;
    level_work = work;
    ioapic_set_redirect(LEVEL_PIN, LEVEL | entry);
    line(LEVEL_PIN, 1);
    asm volatile("nop");
}

static void levels_and_edges(void)
{
    trap_set(LEVEL, on_line);
    irq_enable();
    level(RTE_LEVEL, lower);
    check_equal("level", levels, 1);
    check_equal("TMR of a level", tmr, 1);
    line(LEVEL_PIN, 1);
    line(LEVEL_PIN, 1);
    asm volatile("nop");
    check_equal("each time anew", levels, 3);
    level(RTE_LEVEL, again_inside);
    check_equal("what comes and goes before EOI is nothing", levels, 1);
    level(RTE_LEVEL, lower_second);
    check_equal("what stays comes after EOI", levels, 2);
    level(RTE_LEVEL, mask);
    check_equal("masked in the handler", levels, 1);
    ioapic_set_redirect(LEVEL_PIN, LEVEL | RTE_LEVEL);
    asm volatile("nop");
    check_equal("it comes when unmasked", levels, 2);
    line(LEVEL_PIN, 0);
    level(0, lower);
    check_equal("edge", levels, 1);
    check_equal("TMR of an edge", tmr, 0);
    line(LEVEL_PIN, 0);
    level(RTE_LEVEL | RTE_MASKED, lower);
    check_equal("masked", levels, 0);
    ioapic_set_redirect(LEVEL_PIN, LEVEL | RTE_LEVEL);
    asm volatile("nop");
    check_equal("then not", levels, 1);
    level(RTE_LEVEL, redirect);
    check_equal("sent elsewhere before EOI", levels, 1);
    check_equal("which still is its end", ioapic_redirect(LEVEL_PIN) & RTE_REMOTE_IRR, 0);
    irq_disable();
    ioapic_set_redirect(LEVEL_PIN, RTE_MASKED);
}

static volatile u64 *const memory = (volatile u64 *)MEMORY;

/* Runs the code with RDI at the device's memory; RAX of the end. */
#define RUN(name, text)                                                                        \
    ({                                                                                         \
        struct regs run_ = regs_kernel();                                                      \
        expect_done(name, &run_, CODE_MEMORY(text));                                           \
        run_;                                                                                  \
    })

static void stack(void)
{
    struct regs r;

    r = RUN(
        "stack in device memory",
        "mov rbx, rsp; lea rsp, [rdi+0x1000]; push -7; push 0x12345678; push qword ptr [rbx-8];"
        "pop qword ptr [rdi]; pop rax; pop rcx; lea rdx, [rip+9f]; push rdx; ret; ud2; 9:"
        "mov rdx, rsp; mov rsp, rbx");
    check_equal("popped", r.ax, 0x12345678);
    check_equal("popped, sign-extended", r.cx, -7ul);
    check_equal("RSP", r.dx, MEMORY + 0x1000);
    r = RUN("ENTER and LEAVE",
            "mov rbx, rsp; mov rsi, rbp; lea rsp, [rdi+0x1000]; mov rbp, 0x1122334455667788;"
            "enter 0x238, 0; mov rax, rsp; mov rcx, [rdi+0xff8]; leave; mov rdx, rbp;"
            "mov r8, rsp; mov rsp, rbx; mov rbp, rsi");
    check_equal("ENTER's RSP", r.ax, MEMORY + 0x1000 - 8 - 0x238);
    check_equal("saved RBP", r.cx, 0x1122334455667788);
    check_equal("restored RBP", r.dx, 0x1122334455667788);
    check_equal("LEAVE's RSP", r.r8, MEMORY + 0x1000);
    r = RUN("16-bit push and pop",
            "mov rax, rsp; mov dword ptr [rdi], 0x8899aabb; push word ptr [rdi];"
            "pop cx; sub rax, rsp; movzx ecx, cx");
    check_equal("balance", r.ax, 0);
    check_equal("value", r.cx, 0xaabb);
}

static void arithmetic(void)
{
    struct regs r;

    r = RUN("exchanges",
            "mov rax, 0x0123456789abcdef; mov [rdi], rax; mov rax, 0xfedcba9876543210;"
            "xchg [rdi], al; mov rcx, [rdi]; lock xadd [rdi], ax; mov rdx, [rdi]");
    check_equal("byte exchanged", r.cx, 0x0123456789abcd10);
    check_equal("word exchanged", r.ax, 0xfedcba987654cd10);
    check_equal("and added", r.dx, 0x0123456789abffff);
    r = RUN("bits",
            "mov qword ptr [rdi], 0; mov qword ptr [rdi+8], 0; mov eax, 66; bts [rdi], eax;"
            "mov rax, -1; lea rcx, [rdi+8]; btc [rcx], rax; mov rax, [rdi]; mov rcx, [rdi+8]");
    check_equal("a bit beyond the operand", r.cx, 4);
    check_equal("a bit before it", r.ax, BIT(63));
    r = RUN("multiply, divide",
            "mov qword ptr [rdi], 51; mov eax, 1000; mul byte ptr [rdi];"
            "imul rcx, [rdi], 311; mov edx, 0; mov ebx, 52; mov eax, 5200; mov [rdi], rbx;"
            "div dword ptr [rdi]");
    check_equal("IMUL", r.cx, 51 * 311);
    check_equal("DIV", r.ax, 100);
    {
        struct regs zero = regs_kernel();
        struct code code =
            CODE2("mov rdi, 0xff000000; mov qword ptr [rdi], 0; mov eax, 1; mov edx, 2",
                  "div qword ptr [rdi]");

        expect_fault("division by device memory that is 0", &zero, code, DE, 0);
        check_equal("leaves RAX", zero.ax, 1);
    }
    r = RUN("double shift", "mov dword ptr [rdi], 0x12345678; mov eax, 0xaaaaaaaa; mov cl, 3;"
                            "shld [rdi], eax, cl; mov edx, [rdi]");
    check_equal("SHLD", r.dx, (u32)(0x12345678u << 3 | 5));
    r = RUN("CMOV reads",
            "mov dword ptr [rdi], 5; mov rax, -1; cmp eax, eax; cmovne eax, [rdi]");
    check_equal("and clears the upper half", r.ax, 0xffffffff);
    r = RUN("CMPXCHG16B",
            "mov qword ptr [rdi], 1; mov qword ptr [rdi+8], 2; mov eax, 1; mov edx, 2;"
            "mov ebx, 3; mov ecx, 4; lock cmpxchg16b [rdi]; setz al; movzx eax, al;"
            "mov rcx, [rdi+8]");
    check_equal("exchanged", r.ax, 1);
    check_equal("upper half", r.cx, 4);
}

static void strings(void)
{
    struct regs r;
    static const char text[16] = "abcdefghijklmnop";

    for (unsigned i = 0; i < 200; i++) {
        ((volatile u8 *)MEMORY)[i] = (u8)i;
        ((volatile u8 *)MEMORY)[0x400 + i] = i < 100 ? (u8)i : (u8)(i + 1);
    }
    r = RUN("REPE CMPSB",
            "mov rsi, rdi; add rdi, 0x400; mov ecx, 130; cld; repe cmpsb; mov rax, rsi");
    check_equal("stops behind the difference", r.ax, MEMORY + 101);
    check_equal("count", r.cx, 29);
    r = RUN("SCASB", "mov al, 50; mov ecx, 200; repne scasb; mov rax, rdi");
    check_equal("found", r.ax, MEMORY + 51);
    r = RUN("MOVSQ within", "lea rsi, [rdi+8]; mov ecx, 4; rep movsq; mov rax, [rdi-8]");
    check_equal("moved", r.ax, 0x2726252423222120);
    outb(0xe0, 0x99);
    r = RUN("INSB across pages", "add rdi, 4000; mov dx, 0xe0; mov ecx, 1024; rep insb;"
                                 "movzx eax, byte ptr [rdi-1]; movzx ebx, byte ptr [rdi-1024]");
    check_equal("last", r.ax, 0x99);
    check_equal("first", r.bx, 0x99);
    asm volatile("rep outsb" ::"S"(text), "c"(16), "d"(0xe0) : "memory");
    check_equal("OUTSB upwards ends with", inb(0xe0), 'p');
    asm volatile("std; rep outsb; cld" ::"S"(text + 15), "c"(16), "d"(0xe0) : "memory");
    check_equal("OUTSB downwards ends with", inb(0xe0), 'a');
}

static void vectors(void)
{
    struct regs r;

    r = RUN("MOVDQU",
            "mov rax, 0x1111111122222222; movq xmm1, rax; mov rax, 0x3333333344444444;"
            "pinsrq xmm1, rax, 1; movdqu [rdi+3], xmm1; movups xmm2, [rdi+3]; movq rax, xmm2;"
            "pextrq rcx, xmm2, 1; mov rdx, [rdi+11]");
    check_equal("low", r.ax, 0x1111111122222222);
    check_equal("high", r.cx, 0x3333333344444444);
    check_equal("in memory", r.dx, 0x3333333344444444);
    r = RUN("MMX", "fninit; mov rax, 0x0102030405060708; movq mm3, rax; movq [rdi], mm3;"
                   "movq mm4, [rdi]; movq rcx, mm4; emms");
    check_equal("MOVQ", r.cx, 0x0102030405060708);
    {
        struct regs bad = regs_kernel();

        expect_fault("MOVAPS not aligned", &bad,
                     CODE2("mov rdi, 0xff000000", "movaps [rdi+8], xmm0"), GP, 0);
    }
}

static void system_operands(void)
{
    struct regs r;

    r = RUN("far jump through device memory",
            "lea rax, [rip+9f]; mov [rdi], eax; mov [rdi+4], cs; jmp fword ptr [rdi]; ud2;"
            "9: mov eax, 4");
    check_equal("arrived", r.ax, 4);
    r = RUN(
        "far jump, 64-bit offset",
        "lea rax, [rip+9f]; mov [rdi], rax; mov [rdi+8], cs; rex.w jmp fword ptr [rdi]; ud2;"
        "9: mov eax, 5");
    check_equal("arrived", r.ax, 5);
    r = RUN("SMSW", "mov qword ptr [rdi], -1; smsw [rdi]; mov rax, [rdi]; mov rcx, cr0");
    check_equal("two bytes", r.ax, ~0xfffful | (r.cx & 0xffff));
    r = RUN("segment register", "mov word ptr [rdi], 0; mov ds, [rdi]; mov eax, ds;"
                                "mov word ptr [rdi], 0x10; mov ds, [rdi]");
    check_equal("null", r.ax, 0);
    r = RUN("SGDT, LGDT",
            "sgdt [rdi]; lgdt [rdi]; sgdt [rdi+16]; mov rax, [rdi+2]; sub rax, [rdi+18]");
    check_equal("same base", r.ax, 0);
    r = RUN(
        "LTR",
        "sgdt [rdi]; mov rax, [rdi+2]; str ecx; mov edx, ecx; and edx, 0xfff8;"
        "btr dword ptr [rax+rdx+4], 9; mov [rdi], cx; ltr [rdi]; bt dword ptr [rax+rdx+4], 9;"
        "setc al; movzx eax, al");
    check_equal("busy", r.ax, 1);
    {
        struct regs far = regs_kernel();

        expect_fault("jump to where no code can be", &far,
                     CODE2("mov rdi, 0xff000000; mov rax, 0x1111111111111111; mov [rdi], rax",
                           "jmp qword ptr [rdi]"),
                     GP, 0);
    }
}

/* Two pages that are one behind the other by address only, the first of them RAM. */
static void crossing(void)
{
    struct regs r = RUN("crossing into itself",
                        "mov byte ptr [rdi+4095], 0x99;"
                        "mov byte ptr [rdi+4096], 0x77; mov ax, [rdi+4095]; movzx eax, ax;"
                        "mov word ptr [rdi+4095], 0x88aa; movzx ecx, byte ptr [rdi+4095];"
                        "movzx edx, byte ptr [rdi+4096]");

    check_equal("read", r.ax, 0x7799);
    check_equal("written below", r.cx, 0xaa);
    check_equal("written above", r.dx, 0x88);
}

/* -- pci-testdev --------------------------------------------------------------------------- */

static u32 pci_read(u32 slot, u32 reg)
{
    outl(0xcf8, 0x80000000u | slot << 11 | reg);
    return inl(0xcfc);
}

static void pci(void)
{
    u32 slot = 0, memory_bar, port_bar;
    volatile u32 *bar;

    while (slot < 32 && pci_read(slot, 0) != 0x00051b36)
        slot++;
    if (!check("pci-testdev", slot < 32))
        return;
    memory_bar = pci_read(slot, 0x10);
    port_bar = pci_read(slot, 0x14);
    check_equal("BAR 0 is memory", memory_bar & 1, 0);
    check_equal("BAR 1 is ports", port_bar & 1, 1);
    if (!check("assigned", memory_bar && port_bar > 1))
        return;
    bar = (volatile u32 *)(ulong)memory_bar;
    *(volatile u8 *)bar = 0;
    check_equal("width", bar[0] >> 8 & 0xff, 1);
    check_equal("nothing counted", bar[3], 0);
    for (u32 i = 0; i < 5; i++)
        ((volatile u8 *)bar)[bar[1]] = (u8)bar[2];
    check_equal("five writes counted", bar[3], 5);
    check_equal("name", bar[4], 0x6f696d6d); /* "mmio" */
    *(volatile u8 *)bar = 2;
    ((volatile u8 *)bar)[bar[1]] = (u8)~bar[2];
    check_equal("other data is not counted", bar[3], 0);
    ((volatile u8 *)bar)[bar[1]] = (u8)bar[2];
    check_equal("its data is", bar[3], 1);
    *(volatile u8 *)bar = 77;
    check("no such test", (bar[0] >> 8 & 0xff) != 1);
    port_bar &= ~3u;
    outb((u16)port_bar, 1);
    outb((u16)(port_bar + inl((u16)(port_bar + 4))), (u8)inl((u16)(port_bar + 8)));
    check_equal("a port write counted", inl((u16)(port_bar + 12)), 1);
}

void test(void)
{
    ports();
    lines();
    levels_and_edges();
    *memory = 0x0123456789abcdef;
    check_equal("device memory", *memory, 0x0123456789abcdef);
    stack();
    arithmetic();
    strings();
    vectors();
    system_operands();
    crossing();
    pci();
}
