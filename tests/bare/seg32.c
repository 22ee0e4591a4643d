/*
 * Segmentation in protected mode: what may be loaded into which segment register, limits and
 * kinds of segments, LAR, LSL, VERR and VERW, the local descriptor table (SDM 3A 3.4, 5.2-5.7).
 */
#include "lib/system.h"

enum {
    SEG_A = FREE,
    SEG_B = FREE + 8,
    SEG_LDT = FREE + 16,
    SEG_C = FREE + 24,
    NOT_PRESENT = 0x80,
    READ_ONLY = 0x91,
    READ_WRITE = 0x93,
    DOWN = 0x97,
    EXECUTE = 0x99,
    EXECUTE_READ = 0x9b,
    CONFORMING = 0x9f,
};

static u8 area[0x3000] __attribute__((aligned(4096)));
static u64 ldt[8] __attribute__((aligned(8)));

static void load(const char *name, struct code code, struct regs r, u16 selector,
                 unsigned vector)
{
    r.ax = selector;
    if (vector == VECTOR_END)
        expect_done(name, &r, code);
    else
        expect_fault(name, &r, code, vector, selector & ~3);
}

struct row {
    const char *name;
    u32 attributes;
    unsigned ds0, ss0, ds3, ss3; /* outcomes of loads with RPL = CPL */
};

static const struct row rows[] = {
    {"read-only data, DPL 0", READ_ONLY, VECTOR_END, GP, GP, GP},
    {"read-write data, DPL 0", READ_WRITE, VECTOR_END, VECTOR_END, GP, GP},
    {"expand-down data, DPL 0", DOWN, VECTOR_END, VECTOR_END, GP, GP},
    {"read-write data, DPL 3", READ_WRITE | SEG_DPL3, VECTOR_END, GP, VECTOR_END, VECTOR_END},
    {"read-only data, DPL 3", READ_ONLY | SEG_DPL3, VECTOR_END, GP, VECTOR_END, GP},
    {"read-write data, DPL 1", READ_WRITE | 0x20, VECTOR_END, GP, GP, GP},
    {"execute-only code", EXECUTE, GP, GP, GP, GP},
    {"execute-only code, DPL 3", EXECUTE | SEG_DPL3, GP, GP, GP, GP},
    {"readable code, DPL 0", EXECUTE_READ, VECTOR_END, GP, GP, GP},
    {"readable code, DPL 3", EXECUTE_READ | SEG_DPL3, VECTOR_END, GP, VECTOR_END, GP},
    {"conforming readable code, DPL 0", CONFORMING, VECTOR_END, GP, VECTOR_END, GP},
    {"data not present", READ_WRITE & ~NOT_PRESENT, NP, SS, GP, GP},
    {"data not present, DPL 3", (READ_WRITE | SEG_DPL3) & ~NOT_PRESENT, NP, GP, NP, SS},
    {"code not present", EXECUTE_READ & ~NOT_PRESENT, NP, GP, GP, GP},
    {"empty descriptor", 0, GP, GP, GP, GP},
    {"TSS", 0x89, GP, GP, GP, GP},
    {"LDT", 0x82, GP, GP, GP, GP},
    {"call gate", 0x8c | SEG_DPL3, GP, GP, GP, GP},
    {"interrupt gate", 0x8e, GP, GP, GP, GP},
};

static void loads(void)
{
    for (unsigned i = 0; i < COUNT(rows); i++) {
        const struct row *row = &rows[i];

        gdt_set(SEG_A, segment((u32)area, 0xfff, row->attributes | SEG_32));
        ldt[1] = gdt_get(SEG_A);
        load(row->name, CODE("mov ds, eax"), regs_kernel(), SEG_A, row->ds0);
        load(row->name, CODE("mov fs, eax"), regs_kernel(), SEG_A, row->ds0);
        load(row->name, CODE2("push eax", "pop es"), regs_kernel(), SEG_A, row->ds0);
        load(row->name, CODE("mov ds, eax"), regs_user(), SEG_A | 3, row->ds3);
        load(row->name,
             CODE2("mov ecx, ss; mov ebx, esp", "mov ss, eax; mov ss, ecx; mov esp, ebx"),
             regs_kernel(), SEG_A, row->ss0);
        load(row->name, CODE("mov ss, eax"), regs_user(), SEG_A | 3, row->ss3);
        load(row->name, CODE("mov gs, eax"), regs_kernel(), 0xc, row->ds0);
        load(row->name, CODE("mov gs, eax"), regs_user(), 0xf, row->ds3);
    }
}

static void null_uses(void)
{
    struct regs r;

    if (skip_tcg("use of null segments", "QEMU does not check it"))
        return;
    r = regs_kernel();
    r.ds = 0;
    expect_fault("use of a null DS", &r, CODE("mov al, [ebx]"), GP, 0);
    r = regs_kernel();
    r.ds = 3;
    expect_fault("write through a null DS", &r, CODE("mov [ebx], al"), GP, 0);
    r = regs_kernel();
    r.es = 0;
    r.di = (ulong)area;
    expect_fault("stos through a null ES", &r, CODE("stosb"), GP, 0);
}

static void selectors(void)
{
    struct regs r;

    gdt_set(SEG_A, segment((u32)area, 0xfff, READ_WRITE | SEG_32));
    load("RPL 3 for a DPL 0 segment", CODE("mov ds, eax"), regs_kernel(), SEG_A | 3, GP);
    load("SS with an RPL other than CPL", CODE("mov ss, eax"), regs_kernel(), SEG_A | 1, GP);
    load("selector beyond the GDT", CODE("mov ds, eax"), regs_kernel(), 0x200, GP);
    load("selector beyond the LDT", CODE("mov ds, eax"), regs_kernel(), 0x44, GP);
    load("first selector of the LDT", CODE("mov ds, eax"), regs_kernel(), 0x4, GP);
    load("null SS", CODE("mov ss, eax"), regs_kernel(), 0, GP);
    load("null SS with RPL 3", CODE("mov ss, eax"), regs_user(), 3, GP);
    for (u16 null = 0; null < 4; null++)
        load("null DS", CODE("mov ds, eax"), regs_kernel(), null, VECTOR_END);
    r = regs_kernel();
    r.ds = 0;
    expect_done("lea with a null DS", &r, CODE("lea eax, [ebx]"));
    gdt_set(SEG_A, segment((u32)area, 0xfff, (READ_WRITE & ~1) | SEG_32));
    load("load sets the accessed bit", CODE("mov ds, eax"), regs_kernel(), SEG_A, VECTOR_END);
    check_equal("accessed bit", gdt_get(SEG_A) >> 40 & 1, 1);
    gdt_set(SEG_A, segment((u32)area, 0xfff, (READ_WRITE & ~1 & ~NOT_PRESENT) | SEG_32));
    load("failed load", CODE("mov ds, eax"), regs_kernel(), SEG_A, NP);
    check_equal("a failed load leaves the accessed bit", gdt_get(SEG_A) >> 40 & 1, 0);
    r = regs_kernel();
    expect_done("mov ax, ds with a 32-bit destination zeroes the rest", &r,
                CODE("mov eax, -1; mov eax, ds"));
    check_equal("EAX", r.ax, KDATA);
    r = regs_kernel();
    r.bx = (ulong)area;
    *(u32 *)area = 0x12345678;
    *(u16 *)(area + 4) = SEG_B;
    gdt_set(SEG_B, segment(0, 0xfffff, READ_WRITE | SEG_32 | SEG_4K));
    expect_done("lfs", &r, CODE("lfs ecx, [ebx]"));
    check_equal("offset of lfs", r.cx, 0x12345678);
    check_equal("selector of lfs", r.fs, SEG_B);
    r = regs_kernel();
    r.bx = (ulong)area;
    *(u16 *)(area + 4) = 0x200;
    r.cx = 5;
    expect_fault("les of a bad selector", &r, CODE("les ecx, [ebx]"), GP, 0x200);
    check_equal("the register is not changed", r.cx, 5);
    check_equal("nor the segment", r.es, KDATA);
}

struct limit {
    const char *name;
    u32 attributes, limit;
    u32 offset;
    unsigned size;
    bool ok;
};

static const struct limit limits[] = {
    {"first byte", READ_WRITE | SEG_32, 0xff, 0, 1, true},
    {"last byte", READ_WRITE | SEG_32, 0xff, 0xff, 1, true},
    {"behind", READ_WRITE | SEG_32, 0xff, 0x100, 1, false},
    {"word across the limit", READ_WRITE | SEG_32, 0xff, 0xff, 2, false},
    {"dword at the limit", READ_WRITE | SEG_32, 0xff, 0xfc, 4, true},
    {"dword across the limit", READ_WRITE | SEG_32, 0xff, 0xfd, 4, false},
    {"limit 0, byte", READ_WRITE | SEG_32, 0, 0, 1, true},
    {"limit 0, word", READ_WRITE | SEG_32, 0, 0, 2, false},
    {"4 KiB granularity", READ_WRITE | SEG_32 | SEG_4K, 0, 0xffc, 4, true},
    {"beyond 4 KiB granularity", READ_WRITE | SEG_32 | SEG_4K, 0, 0xffd, 4, false},
    {"expand-down: at the limit", DOWN | SEG_32, 0xff, 0xff, 1, false},
    {"expand-down: above the limit", DOWN | SEG_32, 0xff, 0x100, 4, true},
    {"expand-down: below", DOWN | SEG_32, 0xff, 0, 1, false},
    {"expand-down, 16 bits: top", DOWN, 0xff, 0xffff, 1, true},
    {"expand-down, 16 bits: over the top", DOWN, 0xff, 0xffff, 2, false},
    {"expand-down, 16 bits: beyond", DOWN, 0xff, 0x10000, 1, false},
    {"expand-down, 32 bits: beyond 64 KiB", DOWN | SEG_32, 0xff, 0x10000, 4, true},
    {"expand-down in pages: below", DOWN | SEG_32 | SEG_4K, 1, 0x1fff, 1, false},
    {"expand-down in pages: above", DOWN | SEG_32 | SEG_4K, 1, 0x2000, 1, true},
};

static void limit_checks(void)
{
    for (unsigned i = 0; i < COUNT(limits); i++) {
        const struct limit *l = &limits[i];
        struct code read = l->size == 1   ? CODE("mov al, fs:[ebx]")
                           : l->size == 2 ? CODE("mov ax, fs:[ebx]")
                                          : CODE("mov eax, fs:[ebx]");
        struct code write = l->size == 1   ? CODE("mov fs:[ebx], al")
                            : l->size == 2 ? CODE("mov fs:[ebx], ax")
                                           : CODE("mov fs:[ebx], eax");
        struct code modify = l->size == 1   ? CODE("inc byte ptr fs:[ebx]")
                             : l->size == 2 ? CODE("inc word ptr fs:[ebx]")
                                            : CODE("inc dword ptr fs:[ebx]");
        struct code codes[] = {read, write, modify};

        gdt_set(SEG_A, segment(0x200000, l->limit, l->attributes));
        for (unsigned n = 0; n < COUNT(codes); n++) {
            struct regs r = regs_kernel();

            r.fs = SEG_A;
            r.bx = l->offset;
            if (l->ok)
                expect_done(l->name, &r, codes[n]);
            else if (!on_tcg())
                expect_fault(l->name, &r, codes[n], GP, 0);
        }
    }
    if (on_tcg())
        check_skip("limits", "QEMU does not check them");
}

static void kinds(void)
{
    struct regs r;

    if (skip_tcg("read and write rights of loaded segments", "QEMU does not check them"))
        return;
    gdt_set(SEG_A, segment(0, 0xfffff, READ_ONLY | SEG_32 | SEG_4K));
    r = regs_kernel();
    r.fs = SEG_A;
    r.bx = (ulong)area;
    expect_fault("write to read-only data", &r, CODE("mov fs:[ebx], al"), GP, 0);
    r = regs_kernel();
    r.fs = SEG_A;
    r.bx = (ulong)area;
    expect_fault("xchg with read-only data", &r, CODE("xchg fs:[ebx], al"), GP, 0);
    r = regs_kernel();
    expect_fault("write through CS", &r, CODE("mov cs:[ebx], al"), GP, 0);
    r = regs_kernel();
    r.bx = (ulong)area;
    expect_done("read through CS", &r, CODE("mov al, cs:[ebx]"));
    gdt_set(SEG_A, segment(0, 0xfffff, EXECUTE | SEG_32 | SEG_4K));
    r = regs_kernel();
    r.cs = SEG_A;
    r.bx = (ulong)area;
    expect_fault("read of execute-only code", &r, CODE("mov al, cs:[ebx]"), GP, 0);
}

/* A stack whose segment ends: #SS(0) through EBP, ESP, and by PUSH. Ring 3, so that the handler
 * has its own stack. */
static void stack_limit(void)
{
    struct regs r;

    if (skip_tcg("stack limits", "QEMU does not check them"))
        return;
    gdt_set(SEG_B, segment((u32)area, 0xfff, READ_WRITE | SEG_32 | SEG_DPL3));
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 0x1004;
    expect_fault("push over the limit", &r, CODE("push eax"), SS, 0);
    check_equal("ESP unchanged", r.sp, 0x1004);
    r.ss = SEG_B | 3;
    r.sp = 0x1000;
    expect_done("push at the limit", &r, CODE("push eax"));
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 0xffd;
    expect_fault("pop over the limit", &r, CODE("pop eax"), SS, 0);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 0;
    expect_fault("push below 0", &r, CODE("push eax"), SS, 0);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.bp = 0x1000;
    expect_fault("read through EBP", &r, CODE("mov al, [ebp]"), SS, 0);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 0x1000;
    expect_fault("read through ESP", &r, CODE("mov al, [esp]"), SS, 0);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.bp = 0x1000;
    expect_done("EBP with another segment", &r, CODE("mov al, ds:[ebp]"));
    r = regs_user();
    r.ss = SEG_B | 3;
    r.bx = 0x1000;
    expect_fault("SS by prefix", &r, CODE("mov al, ss:[ebx]"), SS, 0);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 8;
    expect_fault("pushad over the end", &r, CODE("pushad"), SS, 0);
    check_equal("ESP unchanged", r.sp, 8);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 4;
    expect_fault("call without room", &r, CODE2("sub esp, 4", "call 661b"), SS, 0);
    /* B = 0: SP is used, and IRET to ring 3 loads no more than SP. */
    gdt_set(SEG_B, segment((u32)area, 0xffff, READ_WRITE | SEG_DPL3));
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 0x12340010;
    expect_done("16-bit stack: push uses SP", &r, CODE("push eax"));
    check_equal("only SP changes", r.sp & 0xffff, 0x000c);
    r = regs_user();
    r.ss = SEG_B | 3;
    r.sp = 0x12340000;
    expect_done("16-bit stack: SP wraps", &r, CODE("push ax"));
    check_equal("SP wrapped", r.sp & 0xffff, 0xfffe);
}

static void rights(void)
{
    static const struct {
        const char *name;
        u32 attributes;
        u8 lar, lsl, verr, verw; /* at CPL 0, RPL 0 */
        u8 lar3, verr3;          /* at CPL 3 */
    } cases[] = {
        {"read-only data", READ_ONLY, 1, 1, 1, 0, 0, 0},
        {"read-write data", READ_WRITE, 1, 1, 1, 1, 0, 0},
        {"read-write data, DPL 3", READ_WRITE | SEG_DPL3, 1, 1, 1, 1, 1, 1},
        {"execute-only code", EXECUTE, 1, 1, 0, 0, 0, 0},
        {"execute-only code, DPL 3", EXECUTE | SEG_DPL3, 1, 1, 0, 0, 1, 0},
        {"readable code", EXECUTE_READ, 1, 1, 1, 0, 0, 0},
        {"conforming code", CONFORMING, 1, 1, 1, 0, 1, 1},
        {"data not present", READ_WRITE & ~NOT_PRESENT, 1, 1, 1, 1, 0, 0},
        {"available 16-bit TSS", 0x81, 1, 1, 0, 0, 0, 0},
        {"LDT", 0x82, 1, 1, 0, 0, 0, 0},
        {"busy 16-bit TSS", 0x83, 1, 1, 0, 0, 0, 0},
        {"16-bit call gate", 0x84, 1, 0, 0, 0, 0, 0},
        {"task gate", 0x85, 1, 0, 0, 0, 0, 0},
        {"16-bit interrupt gate", 0x86, 0, 0, 0, 0, 0, 0},
        {"16-bit trap gate", 0x87, 0, 0, 0, 0, 0, 0},
        {"available TSS", 0x89, 1, 1, 0, 0, 0, 0},
        {"available TSS, DPL 3", 0x89 | SEG_DPL3, 1, 1, 0, 0, 1, 0},
        {"busy TSS", 0x8b, 1, 1, 0, 0, 0, 0},
        {"call gate", 0x8c, 1, 0, 0, 0, 0, 0},
        {"interrupt gate", 0x8e, 0, 0, 0, 0, 0, 0},
        {"trap gate", 0x8f, 0, 0, 0, 0, 0, 0},
        {"type 0", 0x80, 0, 0, 0, 0, 0, 0},
        {"type 8", 0x88, 0, 0, 0, 0, 0, 0},
        {"type 10", 0x8a, 0, 0, 0, 0, 0, 0},
        {"type 13", 0x8d, 0, 0, 0, 0, 0, 0},
    };

    for (unsigned i = 0; i < COUNT(cases); i++) {
        u64 descriptor = segment(0x12345678, 0xabcde, cases[i].attributes | SEG_4K);
        struct regs r = regs_kernel();
        struct code all = CODE("lar ebx, eax; pushf; pop edx; lsl ecx, eax; pushf; pop esi; "
                               "verr ax; pushf; pop edi; verw ax; pushf; pop ebp");

        gdt_set(SEG_A, descriptor);
        r.ax = SEG_A;
        r.bx = r.cx = 0x5555;
        expect_done(cases[i].name, &r, all);
        check_equal(cases[i].name, r.dx >> 6 & 1, cases[i].lar);
        check_equal(cases[i].name, r.si >> 6 & 1, cases[i].lsl);
        check_equal(cases[i].name, r.di >> 6 & 1, cases[i].verr);
        check_equal(cases[i].name, r.bp >> 6 & 1, cases[i].verw);
        /* LAR of a gate may show the bits that hold its offset; only the rights are compared */
        check_equal("LAR value", r.bx & 0xff00,
                    cases[i].lar ? (descriptor >> 32 & 0xff00) : 0x5500);
        check_equal("LSL value", r.cx, cases[i].lsl ? 0xabcdefff : 0x5555);
        r = regs_user();
        r.ax = SEG_A | 3;
        expect_done(cases[i].name, &r, all);
        check_equal("LAR in ring 3", r.dx >> 6 & 1, cases[i].lar3);
        check_equal("VERR in ring 3", r.di >> 6 & 1, cases[i].verr3);
    }
    struct regs r = regs_kernel();
    r.bx = 0x77;
    expect_done("LAR of null", &r, CODE("xor eax, eax; lar ebx, eax; pushf; pop edx"));
    check_equal("ZF clear", r.dx & FLAG_ZF, 0);
    check_equal("destination unchanged", r.bx, 0x77);
    r = regs_kernel();
    r.ax = 0xfff8;
    expect_done("LSL beyond the GDT", &r, CODE("lsl ebx, eax; pushf; pop edx"));
    check_equal("ZF clear", r.dx & FLAG_ZF, 0);
    gdt_set(SEG_A, segment(0, 0x1234, READ_WRITE));
    r = regs_kernel();
    r.ax = SEG_A;
    r.bx = 0xffff0000;
    expect_done("16-bit LSL", &r, CODE("lsl bx, ax"));
    check_equal("upper half kept", r.bx, 0xffff1234);
}

static void ldt_register(void)
{
    struct regs r;

    gdt_set(SEG_LDT, segment((u32)ldt, sizeof(ldt) - 1, 0x82));
    fault0("lldt beyond the GDT", CODE2("mov eax, 0x200", "lldt ax"), GP, 0x200);
    fault0("lldt of a data segment", CODE2("mov eax, 0x10", "lldt ax"), GP, 0x10);
    fault0("lldt of an LDT selector", CODE2("mov eax, 0x74", "lldt ax"), GP, 0x74);
    gdt_set(SEG_LDT, segment((u32)ldt, sizeof(ldt) - 1, 0x02));
    fault0("lldt not present", CODE2("mov eax, 0x70", "lldt ax"), NP, SEG_LDT);
    gdt_set(SEG_LDT, segment((u32)ldt, sizeof(ldt) - 1, 0x82));
    r = regs_kernel();
    r.ax = SEG_LDT;
    expect_done("lldt", &r, CODE("lldt ax; sldt ebx"));
    check_equal("sldt", r.bx, SEG_LDT);
    fault0("ltr of a busy TSS", CODE2("mov eax, 0x50", "ltr ax"), GP, KTSS);
    if (!skip_tcg("ltr of null", "QEMU takes it"))
        fault0("ltr of null", CODE2("xor eax, eax", "ltr ax"), GP, 0);
    r = regs_kernel();
    expect_done("str", &r, CODE("mov ebx, -1; str ebx"));
    check_equal("TR", r.bx, KTSS);
    check_equal("the TSS in use is busy", gdt_get(KTSS) >> 40 & 0xff, 0x8b);
}

void test(void)
{
    ldt_register();
    loads();
    selectors();
    null_uses();
    limit_checks();
    kinds();
    stack_limit();
    rights();
    struct regs r = regs_kernel();
    expect_done("null LDT", &r, CODE("xor eax, eax; lldt ax; sldt ebx"));
    check_equal("sldt", r.bx, 0);
    load("LDT selector without an LDT", CODE("mov ds, eax"), regs_kernel(), 0xc, GP);
}
