/*
 * Instructions of every kind on device memory: the local APIC's initial count (all 32 bits can
 * be written and read) and the IOAPIC's window; across pages into RAM; and code fetched from
 * there.
 */
#include "lib/apic.h"
#include "lib/page.h"
#include "lib/system.h"

#define REGISTER (APIC_DEFAULT + APIC_TIMER_INITIAL)

static struct regs prepared(u32 value)
{
    struct regs r = regs_kernel();

    apic_write(APIC_TIMER_INITIAL, value);
    r.bx = REGISTER;
    r.ax = 0x1010;
    r.cx = 3;
    r.dx = 0x2468;
    return r;
}

static void expect_value(const char *name, struct code code, u32 before, u32 after)
{
    struct regs r = prepared(before);

    if (expect_done(name, &r, code))
        check_equal(name, apic_read(APIC_TIMER_INITIAL), after);
}

static void expect_result(const char *name, struct code code, u32 value, u64 result)
{
    struct regs r = prepared(value);

    if (expect_done(name, &r, code))
        check_equal(name, r.ax, result);
}

#define VALUE(text, before, after)  expect_value(text, CODE(text), before, after)
#define RESULT(text, value, result) expect_result(text, CODE(text), value, result)

static void stores(void)
{
    VALUE("mov [rbx], eax", 5, 0x1010);
    VALUE("mov dword ptr [rbx], 0x12345678", 5, 0x12345678);
    VALUE("add [rbx], eax", 5, 0x1015);
    VALUE("sub dword ptr [rbx], 2", 5, 3);
    VALUE("or [rbx], edx", 1, 0x2469);
    VALUE("and dword ptr [rbx], 0xf0", 0x1234, 0x30);
    VALUE("xor [rbx], eax", 0x1011, 1);
    VALUE("inc dword ptr [rbx]", 7, 8);
    VALUE("dec dword ptr [rbx]", 7, 6);
    VALUE("not dword ptr [rbx]", 0xffff0000, 0x0000ffff);
    VALUE("neg dword ptr [rbx]", 0xffffff00, 0x100);
    VALUE("shl dword ptr [rbx], cl", 1, 8);
    VALUE("shr dword ptr [rbx], 4", 0x100, 0x10);
    VALUE("rol dword ptr [rbx], 8", 0x12345678, 0x34567812);
    VALUE("stc; adc dword ptr [rbx], 0", 9, 10);
    VALUE("shld [rbx], edx, 16", 0x1234abcd, 0xabcd0000);
    VALUE("bts dword ptr [rbx], 4", 1, 0x11);
    VALUE("btr dword ptr [rbx], 4", 0x11, 1);
    VALUE("btc [rbx], ecx", 1, 9);
    VALUE("lock inc dword ptr [rbx]", 7, 8);
    VALUE("lock add [rbx], edx", 1, 0x2469);
    VALUE("lock bts dword ptr [rbx], 31", 1, 0x80000001);
    VALUE("xchg [rbx], edx", 1, 0x2468);
    VALUE("xadd [rbx], edx", 1, 0x2469);
    VALUE("lock cmpxchg [rbx], edx", 0x1010, 0x2468);
    VALUE("cmpxchg [rbx], edx", 0x1011, 0x1011);
    VALUE("movnti [rbx], edx", 1, 0x2468);
    VALUE("movd xmm0, edx; movd [rbx], xmm0", 1, 0x2468);
    VALUE("movd xmm0, edx; movss [rbx], xmm0", 1, 0x2468);
    VALUE("movd mm0, edx; movd [rbx], mm0; emms", 1, 0x2468);
    VALUE("mov rdi, rbx; mov eax, 77; stosd", 1, 77);
    VALUE("push rdx; mov rsi, rsp; mov rdi, rbx; movsd; pop rdx", 1, 0x2468);
    VALUE("push rdx; mov rsi, rsp; mov rdi, rbx; mov ecx, 1; rep movsd; pop rdx", 1, 0x2468);
    VALUE("mov rdi, rbx; mov eax, 6; mov ecx, 1; rep stosd", 1, 6);
    VALUE("fninit; push rdx; fild dword ptr [rsp]; pop rdx; fistp dword ptr [rbx]", 1, 0x2468);
}

static void loads(void)
{
    RESULT("mov eax, [rbx]", 0x87654321, 0x87654321);
    RESULT("movsxd rax, dword ptr [rbx]", 0x87654321, 0xffffffff87654321);
    RESULT("add eax, [rbx]", 1, 0x1011);
    RESULT("imul eax, [rbx], 3", 5, 15);
    RESULT("imul eax, [rbx]", 2, 0x2020);
    RESULT("mul dword ptr [rbx]", 2, 0x2020);
    RESULT("xor edx, edx; div dword ptr [rbx]", 0x10, 0x101);
    RESULT("cmp dword ptr [rbx], 5; sete al; movzx eax, al", 5, 1);
    RESULT("test dword ptr [rbx], 4; setz al; movzx eax, al", 4, 0);
    RESULT("bt dword ptr [rbx], 3; setc al; movzx eax, al", 8, 1);
    RESULT("bsf eax, [rbx]", 0x40, 6);
    RESULT("cmp eax, eax; cmove eax, [rbx]", 7, 7);
    RESULT("bswap eax; popcnt eax, dword ptr [rbx]", 0xff, 8);
    RESULT("movbe eax, [rbx]", 0x12345678, 0x78563412);
    RESULT("mov rsi, rbx; lodsd", 0x55, 0x55);
    RESULT("mov rdi, rbx; mov eax, 5; scasd; sete al; movzx eax, al", 5, 1);
    RESULT("movd xmm1, [rbx]; movd eax, xmm1", 0x99, 0x99);
    RESULT("movss xmm1, [rbx]; movd eax, xmm1", 0x99, 0x99);
    RESULT("mov eax, 3; xadd [rbx], eax", 0x44, 0x44);
    RESULT("xchg eax, [rbx]", 0x45, 0x45);
    RESULT("mov eax, 1; cmpxchg [rbx], edx", 0x46, 0x46);
    RESULT("mov rcx, rsp; mov rsp, rbx; mov eax, [rsp]; mov rsp, rcx", 0x47, 0x47);
    RESULT("crc32 eax, dword ptr [rbx]; xor eax, eax", 1, 0);
    RESULT(
        "fninit; fild dword ptr [rbx]; push rax; fistp dword ptr [rsp]; pop rax; mov eax, eax",
        0x77, 0x77);
}

/* RAM followed by a device page: the access is split. */
static void crossing(void)
{
    ulong page = page_alloc();
    struct regs r = regs_kernel();

    if (skip_tcg("accesses across RAM and a device", "QEMU splits them into bytes"))
        return;
    page_map(PAGE_TEST, page, 1, PTE_P | PTE_W);
    page_map(PAGE_TEST + 0x1000, IOAPIC_DEFAULT, 1, PTE_P | PTE_W | PTE_PCD);
    *(volatile u32 *)(page + 0xffc) = 0x11223344;
    r.bx = PAGE_TEST + 0xffc;
    expect_done("read across RAM and a device", &r, CODE("mov rax, [rbx]"));
    check_equal("the half in RAM", r.ax & 0xffffffff, 0x11223344);
    r = regs_kernel();
    r.bx = PAGE_TEST + 0xffc;
    r.ax = 0x55667788;
    expect_done("write across", &r, CODE("mov [rbx], rax"));
    check_equal("the half in RAM", *(volatile u32 *)(page + 0xffc), 0x55667788);
}

/* Running code from a device must not end the machine: some exception comes, or it runs on. */
static void fetch(void)
{
    struct regs r = regs_kernel();

    if (skip_tcg("code in a device", "QEMU stops"))
        return;
    r.ip = IOAPIC_DEFAULT + 0x10;
    r.flags |= FLAG_TF;
    regs_run(&r);
    check("code in a device: an exception", r.vector < 32);
    r = regs_kernel();
    page_map(PAGE_TEST + 0x2000, 0x3f000000, 1, PTE_P | PTE_W); /* no memory there */
    r.bx = PAGE_TEST + 0x2000;
    expect_done("memory that is not there reads as ones", &r,
                CODE("mov rax, [rbx]; mov [rbx], rax"));
    check_equal("value", r.ax, ~0ul);
    r = regs_kernel();
    r.ip = PAGE_TEST + 0x2000;
    r.flags |= FLAG_TF;
    regs_run(&r);
    check("code in memory that is not there: an exception", r.vector < 32);
}

void test(void)
{
    apic_init();
    apic_write(APIC_TIMER_DIVIDE, 0xa); /* by 128: the count lasts */
    stores();
    loads();
    crossing();
    fetch();
}
