/*
 * Four-level paging beyond the permissions: page sizes, reserved bits at each level, accesses
 * that cross into a page that faults, what invalidates translations, PCID and INVPCID, CR3.
 */
#include "lib/page.h"
#include "lib/system.h"

#define T0 (PAGE_TEST + 0x1000)
#define T1 (PAGE_TEST + 0x2000)
#define RW (PTE_P | PTE_W)

static ulong page0, page1;

static void map_pair(u64 flags0, u64 flags1)
{
    page_map(T0, page0, 1, flags0);
    page_map(T1, page1, 1, flags1);
}

static u64 reserved_error(ulong error)
{
    return on_tcg() ? error | PF_RSVD : error | PF_RSVD | PF_P;
}

static void expect_read_fault(const char *name, ulong va, ulong error)
{
    struct regs r = regs_kernel();

    r.bx = va;
    if (expect_fault(name, &r, CODE("mov rax, [rbx]"), PF, error))
        check_equal("CR2", r.cr2, va);
}

static void expect_read(const char *name, ulong va, u64 value)
{
    struct regs r = regs_kernel();

    r.bx = va;
    if (expect_done(name, &r, CODE("mov rax, [rbx]")))
        check_equal(name, r.ax, value);
}

static void reserved_bits(void)
{
    unsigned width = cpuid(0x80000008, 0).a & 0xff;
    volatile u64 *pde = page_entry(T0, 2), *pdpte = page_entry(T0, 3);
    volatile u64 *pml4e = page_entry(0x8000000000, 4);
    u64 old_pde, old_pdpte;

    map_pair(RW, RW);
    for (unsigned bit = width; bit < 52; bit++) {
        page_map(T0, page0 | BIT(bit), 1, RW);
        expect_read_fault("physical address too wide in a PTE", T0 + 8, reserved_error(0));
    }
    page_map(T0, page0, 1, RW);
    old_pde = *pde;
    *pde = old_pde | BIT(51);
    invlpg((void *)T0);
    if (width < 52)
        expect_read_fault("physical address too wide in a PDE", T0 + 16, reserved_error(0));
    for (unsigned bit = 13; bit < 21; bit++) {
        *pde = (32 << 20) | PTE_PS | RW | BIT(bit);
        invlpg((void *)T0);
        expect_read_fault("address bits of a 2 MiB page", T0, reserved_error(0));
    }
    *pde = (32 << 20) | PTE_PS | RW | BIT(12);
    invlpg((void *)T0);
    expect_read("PAT bit of a 2 MiB page", T0 + 0x1000, *(u64 *)((32 << 20) + 0x1000));
    *pde = old_pde;
    old_pdpte = *pdpte;
    if (cpuid(0x80000001, 0).d & BIT(26)) {
        for (unsigned bit = 13; bit < 30; bit++) {
            *pdpte = PTE_PS | RW | BIT(bit);
            write_cr3(read_cr3());
            expect_read_fault("address bits of a 1 GiB page", T0, reserved_error(0));
        }
        *pdpte = PTE_PS | RW | BIT(12) | PTE_G;
        write_cr3(read_cr3());
        expect_read("1 GiB page", PAGE_TEST + 0x100000, *(u64 *)0x100000);
        check_equal("A of a 1 GiB page, no D", *pdpte & (PTE_A | PTE_D), PTE_A);
        *(volatile u64 *)(PAGE_TEST + 0x2000000) = 7;
        check_equal("D of a 1 GiB page", *pdpte & (PTE_A | PTE_D), PTE_A | PTE_D);
        *pdpte = PTE_PS | RW | PTE_NX;
        invlpg((void *)T0);
        expect_read("1 GiB page without execution", PAGE_TEST + 0x100000, *(u64 *)0x100000);
    }
    *pdpte = old_pdpte;
    write_cr3(read_cr3());
    *pml4e = page_alloc() | RW | PTE_PS;
    expect_read_fault("PS in a PML4 entry", 0x8000000000, reserved_error(0));
    *pml4e = page_alloc() | RW | PTE_A;
    invlpg((void *)0x8000000000);
    expect_read_fault("empty page directory pointer table", 0x8000000000, 0);
    *pml4e = 0;
}

static void crossing(void)
{
    struct regs r;
    volatile u64 *last = (volatile u64 *)(page0 + 0xff8), *first = (volatile u64 *)page1;

    *last = 0x1111111111111111;
    *first = 0x2222222222222222;
    map_pair(RW, RW);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_done("read across pages", &r, CODE("mov rax, [rbx]"));
    check_equal("value", r.ax, 0x2222222222111111);
    map_pair(RW, 0);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_fault("read into an absent page", &r, CODE("mov rax, [rbx]"), PF, 0);
    check_equal("CR2 is the first byte of the second page", r.cr2, T1);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_fault("write into an absent page", &r, CODE("mov [rbx], rax"), PF, PF_W);
    check_equal("CR2", r.cr2, T1);
    check_equal("nothing was written", *last, 0x1111111111111111);
    map_pair(RW, PTE_P);
    write_cr0(read_cr0() | CR0_WP);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_fault("write into a read-only page", &r, CODE("mov [rbx], rax"), PF, PF_W | PF_P);
    check_equal("CR2", r.cr2, T1);
    check_equal("nothing was written", *last, 0x1111111111111111);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_fault("add into a read-only page", &r, CODE("add [rbx], rax"), PF, PF_W | PF_P);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    r.flags |= FLAG_CF;
    expect_fault("locked add into a read-only page", &r, CODE("lock add [rbx], rsp"), PF,
                 PF_W | PF_P);
    check("flags unchanged", (r.flags & (FLAG_CF | FLAG_ZF)) == FLAG_CF);
    check_equal("nothing was written", *last, 0x1111111111111111);
    map_pair(0, 0);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_fault("both pages absent", &r, CODE("mov rax, [rbx]"), PF, 0);
    check_equal("CR2 is in the first", r.cr2, T0 + 0xffd);
    map_pair(0, RW);
    r = regs_kernel();
    r.bx = T0 + 0xffd;
    expect_fault("the first absent", &r, CODE("mov [rbx], eax"), PF, PF_W);
    check_equal("CR2", r.cr2, T0 + 0xffd);
    check_equal("nothing was written", *first, 0x2222222222222222);
    map_pair(RW, 0);
    r = regs_kernel();
    r.sp = T1 + 4;
    expect_fault("push into an absent page", &r, CODE("push rax"), PF, PF_W);
    check_equal("CR2 of the push", r.cr2, on_tcg() ? r.cr2 : T1);
    check_equal("RSP unchanged", r.sp, T1 + 4);
    r = regs_kernel();
    r.sp = T0 + 0xffc;
    expect_fault("pop from an absent page", &r, CODE("pop rax"), PF, 0);
    check_equal("RSP unchanged", r.sp, T0 + 0xffc);
    r = regs_kernel();
    r.bx = T0 + 0xff8;
    expect_fault("16 bytes into an absent page", &r, CODE("movups xmm0, [rbx]"), PF, 0);
    check_equal("CR2", r.cr2, T1);
    r = regs_kernel();
    r.bx = T0 + 0xff8;
    expect_fault("fxsave into an absent page", &r, CODE("fxsave [rbx + 0x8]"), PF, PF_W);
}

/* An instruction that lies in two pages, and code that runs off the end of one. */
static void fetch_crossing(void)
{
    struct regs r = regs_kernel();
    volatile u8 *end = (volatile u8 *)page0 + 0xffd;

    end[0] = 0xb8; /* mov eax, 0x44332211 */
    end[1] = 0x11;
    end[2] = 0x22;
    *(volatile u32 *)page1 = 0x40cd4433;
    map_pair(RW, RW);
    r.ip = T0 + 0xffd;
    regs_run(&r);
    check_equal("instruction across pages", r.ax, 0x44332211);
    map_pair(RW, 0);
    r = regs_kernel();
    r.ip = T0 + 0xffd;
    regs_run(&r);
    check_equal("#PF on the second page of an instruction", r.vector, PF);
    check_equal("error code", r.error, PF_I);
    check_equal("CR2", r.cr2, T1);
    check_equal("RIP", r.ip, T0 + 0xffd);
    map_pair(RW, RW | PTE_NX);
    r = regs_kernel();
    r.ip = T0 + 0xffd;
    regs_run(&r);
    check_equal("second page not executable", r.error, PF_I | PF_P);
    check_equal("CR2", r.cr2, T1);
    end[0] = end[1] = end[2] = 0x90;
    map_pair(RW, RW | PTE_NX);
    r = regs_kernel();
    r.ip = T0 + 0xffd;
    regs_run(&r);
    check_equal("running into the next page", r.ip, T1);
    check_equal("error code", r.error, PF_I | PF_P);
    map_pair(RW | PTE_NX, RW);
    r = regs_kernel();
    r.ip = T0 + 0xffd;
    regs_run(&r);
    check_equal("first page not executable", r.ip, T0 + 0xffd);
}

static void strings(void)
{
    struct regs r = regs_kernel();

    map_pair(RW, 0);
    r.di = T0 + 0xff0;
    r.cx = 0x40;
    r.ax = 0x5a;
    expect_fault("rep stosb into an absent page", &r, CODE("rep stosb"), PF, PF_W);
    check_equal("RDI at the fault", r.di, T1);
    check_equal("RCX at the fault", r.cx, 0x30);
    check_equal("bytes stored", *(volatile u64 *)(page0 + 0xff8), 0x5a5a5a5a5a5a5a5a);
    r = regs_kernel();
    r.si = T0 + 0xff0;
    r.di = T0;
    r.cx = 8;
    expect_fault("rep movsq from an absent page", &r, CODE("rep movsq"), PF, 0);
    check_equal("RSI", r.si, T1);
    check_equal("RDI", r.di, T0 + 0x10);
    check_equal("RCX", r.cx, 6);
    r = regs_kernel();
    r.si = T0 + 0xff4;
    r.di = T0;
    r.cx = 8;
    expect_fault("rep movsq with an element across the pages", &r, CODE("rep movsq"), PF, 0);
    check_equal("RSI", r.si, T0 + 0xffc);
    check_equal("CR2", r.cr2, T1);
    check_equal("RCX", r.cx, 7);
    r = regs_kernel();
    r.flags |= FLAG_DF;
    r.di = T0 + 0x10;
    r.cx = 0x40;
    page_map(T0 - 0x1000, 0, 1, 0);
    expect_fault("rep stosb downwards", &r, CODE("rep stosb"), PF, PF_W);
    check_equal("RDI", r.di, T0 - 1);
    check_equal("CR2", r.cr2, T0 - 1);
    check_equal("RCX", r.cx, 0x40 - 0x11);
    r = regs_kernel();
    r.di = T1;
    r.cx = 0;
    expect_done("rep stosb of nothing touches nothing", &r, CODE("rep stosb"));
    r = regs_kernel();
    r.di = T0 + 0xff0;
    r.cx = 0x40;
    r.ax = 0x5a;
    *(volatile u8 *)(page0 + 0xff8) = 1;
    expect_done("repe scasb stops before the absent page", &r, CODE("repe scasb"));
    check_equal("RDI", r.di, T0 + 0xff9);
    r = regs_kernel();
    r.di = T1;
    r.dx = 0xe9;
    r.cx = 1;
    expect_fault("rep insb to an absent page", &r, CODE("rep insb"), PF, PF_W);
    check_equal("RCX", r.cx, 1);
}

/* Writes that are checked as writes although they may not change anything. */
static void read_only(void)
{
    struct regs r;

    write_cr0(read_cr0() | CR0_WP);
    map_pair(PTE_P, PTE_P);
#define DENIED(text)                                                                           \
    r = regs_kernel(), r.bx = T0, r.ax = 5, r.bp = T0,                                         \
    expect_fault(text, &r, CODE(text), PF, PF_W | PF_P)
    DENIED("cmpxchg [rbx], rcx");
    DENIED("cmpxchg8b [rbx]");
    DENIED("cmpxchg16b [rbx]");
    DENIED("xchg [rbx], rax");
    DENIED("or byte ptr [rbx], 0");
    DENIED("bts qword ptr [rbx], rcx");
    DENIED("shl qword ptr [rbx], cl");
    DENIED("xadd [rbx], rax");
    DENIED("sete [rbx]");
    DENIED("movnti [rbx], rax");
    DENIED("movups [rbx], xmm0");
    DENIED("fstp dword ptr [rbx]");
    DENIED("fnstcw [rbx]");
    DENIED("stmxcsr [rbx]");
    DENIED("sgdt [rbx]");
    DENIED("smsw [rbx]");
    DENIED("pop [rbx]");
    DENIED("mov [rbx], ds");
    DENIED("fxsave [rbx]");
#define ALLOWED(text) r = regs_kernel(), r.bx = T0, r.bp = T0, expect_done(text, &r, CODE(text))
    ALLOWED("cmp [rbx], rax");
    ALLOWED("test [rbx], rax");
    ALLOWED("bt qword ptr [rbx], 3");
    ALLOWED("prefetchw [rbx]");
    ALLOWED("clflush [rbx]");
    check_equal("D of the read-only page", *page_entry(T0, 1) & PTE_D, 0);
    write_cr0(read_cr0() & ~CR0_WP);
    ALLOWED("or byte ptr [rbx], 0");
    check_equal("D with WP off", *page_entry(T0, 1) & PTE_D, PTE_D);
    write_cr0(read_cr0() | CR0_WP);
    r = regs_kernel();
    r.bx = T0;
    expect_fault("WP on again", &r, CODE("mov [rbx], rax"), PF, PF_W | PF_P);
}

/* The new translation must be seen after each way to invalidate. */
static void invalidation(void)
{
    volatile u64 *p = (volatile u64 *)T0;
    volatile u64 *pte = page_entry(T0, 1);
    u64 flags[] = {RW, RW | PTE_G};

    *(volatile u64 *)page0 = 10;
    *(volatile u64 *)page1 = 11;
    for (unsigned i = 0; i < 2; i++) {
        page_map(T0, page0, 1, flags[i]);
        check_equal("before", *p, 10);
        *pte = page1 | flags[i];
        invlpg((void *)(T0 + 0x777));
        check_equal("INVLPG of another byte of the page", *p, 11);
        *pte = page0 | flags[i];
        write_cr4(read_cr4() ^ CR4_PGE);
        check_equal("CR4.PGE changed", *p, 10);
        *pte = page1 | flags[i];
        write_cr4(read_cr4() ^ CR4_PGE);
        check_equal("CR4.PGE changed back", *p, 11);
        *pte = page0 | flags[i];
        write_cr0(read_cr0() ^ CR0_WP);
        invlpg((void *)T0);
        write_cr0(read_cr0() ^ CR0_WP);
        check_equal("CR0.WP changed, INVLPG", *p, 10);
    }
    page_map(T0, page0, 1, RW);
    check_equal("before", *p, 10);
    *pte = page1 | RW;
    write_cr3(read_cr3());
    check_equal("CR3 written", *p, 11);
    *pte = 0;
    invlpg((void *)T0);
    *pte = page0 | RW;
    check_equal("from absent to present without invalidation", *p, 10);
    *pte = page0 | RW; /* A and D clear, but perhaps cached */
    invlpg((void *)T0);
    (void)*p;
    check_equal("A set by a read", *pte & (PTE_A | PTE_D), PTE_A);
    *p = 10;
    check_equal("D set by a write after a read", *pte & (PTE_A | PTE_D), PTE_A | PTE_D);
    /* a large page gives way to small ones */
    page_map(PAGE_TEST + 0x200000, 32 << 20, 2, RW);
    *(volatile u64 *)((32 << 20) + 0x3000) = 77;
    check_equal("2 MiB page", *(volatile u64 *)(PAGE_TEST + 0x203000), 77);
    *page_entry(PAGE_TEST + 0x200000, 2) = 0;
    page_map(PAGE_TEST + 0x203000, page0, 1, RW);
    check_equal("4 KiB page in its place", *(volatile u64 *)(PAGE_TEST + 0x203000), 10);
}

static unsigned store_from(bool user, ulong la)
{
    struct regs r = user ? regs_user() : regs_kernel();
    struct code code = CODE("mov [rbx], al");

    r.ax = 10; /* as the page begins anyway */
    r.bx = la;
    r.ip = (ulong)code.start + (user ? USER_BASE : 0);
    regs_run(&r);
    return r.vector == PF ? r.error : r.vector;
}

/* Two entries of one table lead to one directory, and only one of them lets write: what an
 * address may do is its own path's matter, whatever was cached for the other. */
static void shared_directory(void)
{
    const ulong open = 0xffff923480000000, closed = open + (1ul << 30);

    page_map(open, page0, 1, RW | PTE_U);
    *page_entry(closed, 3) = *page_entry(open, 3) & ~PTE_W;
    for (unsigned i = 0; i < 2; i++) {
        check_equal("by the open path", store_from(true, open), VECTOR_END);
        check_equal("by the closed one", store_from(true, closed), PF_P | PF_W | PF_U);
        check_equal("ring 0", store_from(false, closed), PF_P | PF_W);
        write_cr0(read_cr0() & ~CR0_WP);
        check_equal("without WP", store_from(false, closed), VECTOR_END);
        check_equal("that is ring 0's alone", store_from(true, closed), PF_P | PF_W | PF_U);
        write_cr0(read_cr0() | CR0_WP);
        check_equal("WP again", store_from(false, closed), PF_P | PF_W);
    }
}

static unsigned invpcid(ulong type, ulong pcid, ulong address)
{
    struct regs r = regs_kernel();
    struct code code = CODE("invpcid rax, [rbx]");
    u64 descriptor[2] = {pcid, address};

    r.ax = type;
    r.bx = (ulong)descriptor;
    r.ip = (ulong)code.start;
    regs_run(&r);
    return r.vector;
}

static void pcid(void)
{
    volatile u64 *p = (volatile u64 *)T0;
    volatile u64 *pte = page_entry(T0, 1);
    ulong cr3 = read_cr3(), cr4 = read_cr4();

    if (!(cpuid(1, 0).c & BIT(17))) {
        if (!skip_tcg("CR4.PCIDE without PCID", "QEMU keeps reserved bits"))
            check_equal("CR4.PCIDE without PCID", write_cr4_safe(cr4 | CR4_PCIDE), GP);
        return;
    }
    write_cr3(cr3 | 5);
    check_equal("CR4.PCIDE with CR3[11:0] not 0", write_cr4_safe(cr4 | CR4_PCIDE),
                on_tcg() ? VECTOR_END : GP);
    write_cr4(cr4 & ~CR4_PCIDE);
    write_cr3(cr3);
    check_equal("CR4.PCIDE", write_cr4_safe(cr4 | CR4_PCIDE), VECTOR_END);
    check_equal("CR0.PG off with PCIDE", write_cr0_safe(read_cr0() & ~CR0_PG), GP);
    page_map(T0, page0, 1, RW);
    write_cr3(cr3 | 1);
    check_equal("PCID 1", *p, 10);
    check_equal("CR3 reads with its PCID", read_cr3(), cr3 | 1);
    *pte = page1 | RW;
    write_cr3(cr3 | 1);
    check_equal("CR3 written with bit 63 clear flushes its PCID", *p, 11);
    check_equal("bit 63 of CR3 accepted", write_cr3_safe(cr3 | 2 | BIT(63)), VECTOR_END);
    check_equal("bit 63 of CR3 is not stored", read_cr3(), cr3 | 2);
    *pte = page0 | RW;
    write_cr3(cr3 | 2);
    check_equal("PCID 2", *p, 10);
    if (cpuid(7, 0).b & BIT(10)) {
        *pte = page1 | RW;
        check_equal("INVPCID 0", invpcid(0, 2, T0), VECTOR_END);
        check_equal("after INVPCID 0", *p, 11);
        *pte = page0 | RW;
        check_equal("INVPCID 1", invpcid(1, 2, 0), VECTOR_END);
        check_equal("after INVPCID 1", *p, 10);
        page_map(T0, page0, 1, RW | PTE_G);
        check_equal("before INVPCID 2", *p, 10);
        *pte = page1 | RW | PTE_G;
        check_equal("INVPCID 2", invpcid(2, 0, 0), VECTOR_END);
        check_equal("after INVPCID 2", *p, 11);
        page_map(T0, page0, 1, RW);
        check_equal("before INVPCID 3", *p, 10);
        *pte = page1 | RW;
        check_equal("INVPCID 3", invpcid(3, 0, 0), VECTOR_END);
        check_equal("after INVPCID 3", *p, 11);
        check_equal("INVPCID 4", invpcid(4, 0, 0), GP);
        check_equal("INVPCID with PCID too large", invpcid(1, 0x1000, 0), GP);
        for (ulong type = 0; type < 4 && !on_tcg(); type++)
            check_equal("INVPCID with a reserved bit", invpcid(type, BIT(63), 0), GP);
        check_equal("INVPCID 0, not canonical", invpcid(0, 1, BIT(63)), GP);
        check_equal("INVPCID 1, address ignored", invpcid(1, 1, BIT(63)), VECTOR_END);
    }
    write_cr3(cr3);
    write_cr4(cr4);
    if (cpuid(7, 0).b & BIT(10)) {
        check_equal("INVPCID without PCIDE, PCID 0", invpcid(1, 0, 0), VECTOR_END);
        check_equal("INVPCID without PCIDE, PCID 1, address", invpcid(0, 1, T0),
                    on_tcg() ? invpcid(0, 1, T0) : GP);
    }
}

static void cr3_values(void)
{
    unsigned width = cpuid(0x80000008, 0).a & 0xff;
    ulong cr3 = read_cr3();

    check_equal("PWT and PCD of CR3", write_cr3_safe(cr3 | 0x18), VECTOR_END);
    check_equal("CR3 reads back", read_cr3(), cr3 | 0x18);
    write_cr3(cr3);
    if (skip_tcg("reserved bits of CR3", "QEMU keeps them"))
        return;
    check_equal("CR3 bit 63 without PCIDE", write_cr3_safe(cr3 | BIT(63)), GP);
    if (width < 52)
        check_equal("CR3 beyond the physical width", write_cr3_safe(cr3 | BIT(width)), GP);
    check_equal("CR3 bit 52", write_cr3_safe(cr3 | BIT(52)), GP);
    check_equal("CR3 unchanged", read_cr3(), cr3);
}

void test(void)
{
    page0 = page_alloc();
    page1 = page_alloc();
    write_cr4(read_cr4() | CR4_PGE);
    reserved_bits();
    crossing();
    fetch_crossing();
    strings();
    read_only();
    invalidation();
    shared_directory();
    pcid();
    cr3_values();
}
