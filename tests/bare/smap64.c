/*
 * SMAP and SMEP: explicit accesses with and without RFLAGS.AC, implicit ones (descriptor
 * tables, the TSS, exception frames), which AC does not help, STAC and CLAC (SDM 3A 4.6.1).
 */
#include "lib/page.h"
#include "lib/system.h"

#define T0 PAGE_TEST

static ulong page;

static void map(u64 flags)
{
    page_map(T0, page, 1, PTE_P | flags);
}

static void explicit_accesses(void)
{
    struct regs r;

    map(PTE_W | PTE_U);
    r = regs_kernel();
    r.bx = T0;
    expect_fault("read of a user page", &r, CODE("mov eax, [rbx]"), PF, PF_P);
    r = regs_kernel();
    r.bx = T0;
    expect_fault("write to a user page", &r, CODE("mov [rbx], eax"), PF, PF_P | PF_W);
    r = regs_kernel();
    r.bx = T0;
    expect_done("between STAC and CLAC", &r,
                CODE("stac; mov eax, [rbx]; mov [rbx], eax; clac"));
    r = regs_kernel();
    r.bx = T0;
    expect_fault("after CLAC", &r, CODE2("stac; clac", "mov eax, [rbx]"), PF, PF_P);
    r = regs_kernel();
    r.flags |= FLAG_AC;
    r.bx = T0;
    expect_done("AC by IRET", &r, CODE("mov eax, [rbx]"));
    r = regs_kernel();
    r.bx = T0;
    expect_done("AC by POPF", &r,
                CODE("pushfq; or dword ptr [rsp], 0x40000; popfq; mov eax, [rbx]"));
    r = regs_kernel();
    r.bx = T0;
    expect_fault(
        "AC cleared by POPF", &r,
        CODE2("stac; pushfq; and dword ptr [rsp], 0xfffbffff; popfq", "mov eax, [rbx]"), PF,
        PF_P);
    r = regs_kernel();
    r.sp = T0 + 0x800;
    expect_fault("push on a user stack", &r, CODE("push rax"), PF, PF_P | PF_W);
    r = regs_kernel();
    r.si = T0;
    r.di = T0 + 0x100;
    r.cx = 4;
    expect_fault("rep movsb", &r, CODE("rep movsb"), PF, PF_P);
    r = regs_kernel();
    r.bx = T0;
    expect_fault("lgdt from a user page", &r, CODE("lgdt [rbx]"), PF, PF_P);
    r = regs_kernel();
    r.bx = T0;
    expect_fault("fxsave to a user page", &r, CODE("fxsave [rbx]"), PF, PF_P | PF_W);
    r = regs_user();
    r.bx = T0;
    expect_done("ring 3 itself", &r, CODE("mov eax, [rbx]"));
    r = regs_user();
    expect_fault("stac in ring 3", &r, CODE("stac"), UD, 0);
    r = regs_user();
    expect_fault("clac in ring 3", &r, CODE("clac"), UD, 0);
    map(PTE_U);
    r = regs_kernel();
    r.flags |= FLAG_AC;
    r.bx = T0;
    write_cr0(read_cr0() | CR0_WP);
    expect_fault("AC does not help against WP", &r, CODE("mov [rbx], eax"), PF, PF_P | PF_W);
    map(PTE_W);
    r = regs_kernel();
    r.bx = T0;
    expect_done("supervisor page", &r, CODE("mov [rbx], eax"));
    write_cr4(read_cr4() & ~CR4_SMAP);
    map(PTE_W | PTE_U);
    r = regs_kernel();
    r.bx = T0;
    expect_done("CR4.SMAP off", &r, CODE("mov eax, [rbx]"));
    write_cr4(read_cr4() | CR4_SMAP);
    r = regs_kernel();
    r.bx = T0;
    expect_fault("and on again", &r, CODE("mov eax, [rbx]"), PF, PF_P);
}

/* The GDT moved to a page that ring 3 may see: the processor's own accesses fault. */
static void implicit_accesses(void)
{
    struct table_register gdtr = {sizeof(cpu_this()->gdt) - 1, T0},
                          old = {sizeof(cpu_this()->gdt) - 1, (ulong)cpu_this()->gdt};
    struct regs r;

    if (skip_tcg("implicit accesses", "QEMU 7.2 is wrong about them"))
        return;
    map(PTE_W);
    for (unsigned i = 0; i < sizeof(cpu_this()->gdt) / 8; i++)
        ((volatile u64 *)page)[i] = cpu_this()->gdt[i];
    map(PTE_W | PTE_U);
    r = regs_kernel();
    r.bx = (ulong)&gdtr;
    r.si = (ulong)&old;
    r.flags |= FLAG_AC;
    expect_done("lgdt itself touches nothing", &r, CODE("lgdt [rbx]; lgdt [rsi]"));
    /* SLDT, STR and the like read no table; a load of FS does, and its #PF needs CS from it,
     * too: the way out is a double fault that needs it as well. LAR's fault is the same. So
     * only what does not fault is tried: with AC clear in ring 0, on a supervisor page. */
    map(PTE_W);
    r = regs_kernel();
    r.bx = (ulong)&gdtr;
    r.si = (ulong)&old;
    expect_done("GDT on a supervisor page", &r,
                CODE("lgdt [rbx]; mov eax, 0x10; mov fs, eax; lgdt [rsi]"));
}

/* A ring 3 interrupt pushes on its inner stack as supervisor, whatever AC says. */
static void inner_stack(void)
{
    ulong stack = tss_stack();
    struct gate saved = idt[0x31];
    struct regs r;
    struct code code = CODE("int 0x31");

    if (on_tcg())
        return;
    map(PTE_W | PTE_U);
    idt_set_ist(0x31, 0);
    idt[0x31].low |= 3ull << 45;
    tss_set_stack(T0 + 0x1000);
    r = regs_user();
    r.flags |= FLAG_AC;
    expect_fault("frame on a user page", &r, code, PF, PF_P | PF_W);
    check_equal("CR2", r.cr2, T0 + 0xff8);
    r = regs_user();
    tss_set_stack(stack);
    expect_trap("frame on a supervisor page", &r, code, 0x31);
    idt[0x31] = saved;
}

static void smep(void)
{
    struct regs r;

    write_cr4(read_cr4() | CR4_SMEP);
    *(volatile u16 *)page = 0x40cd;
    map(PTE_W | PTE_U);
    r = regs_kernel();
    r.ip = T0;
    regs_run(&r);
    check_equal("kernel runs a user page", r.vector, PF);
    check_equal("error code", r.error, PF_P | PF_I);
    r = regs_kernel();
    r.flags |= FLAG_AC;
    r.ip = T0;
    regs_run(&r);
    check_equal("AC does not help", r.error, PF_P | PF_I);
    r = regs_user();
    r.ip = T0;
    regs_run(&r);
    check_equal("ring 3 may", r.vector, VECTOR_END);
    write_cr4(read_cr4() & ~CR4_SMEP);
    r = regs_kernel();
    r.ip = T0;
    regs_run(&r);
    check_equal("SMEP off", r.vector, VECTOR_END);
}

void test(void)
{
    u32 features = cpuid(7, 0).b;

    page = page_alloc();
    if (features & BIT(20)) {
        write_cr4(read_cr4() | CR4_SMAP);
        explicit_accesses();
        implicit_accesses();
        inner_stack();
        write_cr4(read_cr4() & ~CR4_SMAP);
    } else {
        check_equal("CR4.SMAP without SMAP", write_cr4_safe(read_cr4() | CR4_SMAP), GP);
    }
    if (features & BIT(7))
        smep();
}
