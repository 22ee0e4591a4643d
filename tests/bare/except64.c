/*
 * Exceptions in 64-bit mode: each vector with its error code and saved RIP, gates that refuse,
 * and what becomes of an exception during the delivery of another (SDM 3A 6.13-6.15, APM
 * 2 8.2).
 */
#include "lib/page.h"
#include "lib/system.h"

/*
 * The error code for a descriptor of the IDT: its index is the vector (APM 2 8.4.1, SDM
 * 3A 6.13). QEMU 7.2 reports the vector times 16, and never the EXT bit.
 */
static ulong idt_error(unsigned vector, bool external)
{
    return on_tcg() ? vector * 16 + 2 : vector * 8 + 2 + external;
}

#define NON_CANONICAL 0x8000000000000000ul

static void fault3(const char *name, struct code code, unsigned vector, ulong error)
{
    struct regs r = regs_user();

    expect_fault(name, &r, code, vector, error);
}

static void divide(void)
{
    struct regs r = regs_kernel();

    r.ax = 1;
    expect_fault("div by 0", &r, CODE("div rcx"), DE, 0);
    r = regs_kernel();
    r.ax = 0x100;
    r.cx = 1;
    expect_fault("div cl overflow", &r, CODE("div cl"), DE, 0);
    check_equal("RAX unchanged by #DE", r.ax, 0x100);
    r = regs_kernel();
    r.dx = r.ax = 0;
    r.dx = BIT(63);
    r.cx = -1;
    expect_fault("idiv overflow", &r, CODE("idiv rcx"), DE, 0);
    r = regs_kernel();
    r.ax = 0x80000000;
    r.dx = 0xffffffff;
    r.cx = 0xffffffff;
    expect_fault("idiv of the lowest number by -1", &r, CODE("idiv ecx"), DE, 0);
    r = regs_kernel();
    r.ax = 0x80;
    r.cx = 1;
    expect_fault("idiv cl just too large", &r, CODE("idiv cl"), DE, 0);
    r = regs_kernel();
    r.ax = 0xff80;
    r.cx = 1;
    expect_done("idiv cl of -128", &r, CODE("idiv cl"));
    check_equal("quotient -128", r.ax & 0xffff, 0x0080);
}

static void software(void)
{
    struct regs r = regs_kernel();

    expect_trap("int3", &r, CODE("int3"), BP);
    r = regs_kernel();
    expect_trap("int 3, two bytes", &r, CODE(".byte 0xcd, 3"), BP);
    r = regs_kernel();
    expect_trap("int 4", &r, CODE("int 4"), OF);
    if (!on_tcg()) {
        r = regs_kernel();
        expect_trap("icebp", &r, CODE(".byte 0xf1"), DB);
        r = regs_kernel();
        expect_trap("int 0x31", &r, CODE("int 0x31"), 0x31);
        r = regs_user();
        expect_trap("int3 in ring 3", &r, CODE("int3"), BP);
        r = regs_user();
        expect_trap("icebp in ring 3 ignores the gate's DPL", &r, CODE(".byte 0xf1"), DB);
    }
    fault3("int 1 in ring 3 against DPL 0", CODE("int 1"), GP, idt_error(1, false));
    fault3("int 0x31 in ring 3 against DPL 0", CODE("int 0x31"), GP, idt_error(0x31, false));
    fault3("int 13 in ring 3", CODE("int 13"), GP, idt_error(13, false));
    idt[BP].low &= ~(3ull << 45);
    fault3("int3 in ring 3 against DPL 0", CODE("int3"), GP, idt_error(BP, false));
    idt[BP].low |= 3ull << 45;
}

static void undefined(void)
{
    static const u8 one_byte[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27,
                                  0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a, 0xc4,
                                  0xc5, 0xce, 0xd4, 0xd5, 0xd6, 0xea};
    static u8 page[4096] __attribute__((aligned(4096)));
    struct code code = {(char *)page, (char *)page, (char *)page + 15};

    for (unsigned i = 0; i < COUNT(one_byte); i++) {
        struct regs r = regs_kernel();

        /* a ModRM byte that would make C4, C5 and 62 load from memory; followed by zeros */
        page[0] = one_byte[i];
        page[1] = page[2] = page[3] = page[4] = page[5] = page[6] = 0;
        if (!expect_fault("one-byte opcode without meaning in 64-bit mode", &r, code, UD, 0))
            print("     opcode %02x\n", one_byte[i]);
    }
    fault0("ud2", CODE("ud2"), UD, 0);
    fault0("ud1", CODE(".byte 0x0f, 0xb9, 0xc0"), UD, 0);
    fault0("ud0", CODE(".byte 0x0f, 0xff, 0xc0"), UD, 0);
    fault0("0f 04", CODE(".byte 0x0f, 0x04"), UD, 0);
    fault0("0f 0a", CODE(".byte 0x0f, 0x0a"), UD, 0);
    fault0("mov cr1", CODE(".byte 0x0f, 0x20, 0xc8"), UD, 0);
    fault0("mov cr5", CODE(".byte 0x0f, 0x22, 0xe8"), UD, 0);
    fault0("mov cr9", CODE(".byte 0x44, 0x0f, 0x20, 0xc8"), UD, 0);
    fault0("mov dr8", CODE(".byte 0x44, 0x0f, 0x21, 0xc0"), UD, 0);
    fault0("mov cs, ax", CODE(".byte 0x8e, 0xc8"), UD, 0);
    fault0("mov of segment register 6", CODE(".byte 0x8e, 0xf0"), UD, 0);
    fault0("mov from segment register 7", CODE(".byte 0x8c, 0xf8"), UD, 0);
    fault0("lea of a register", CODE(".byte 0x8d, 0xc0"), UD, 0);
    fault0("cmpxchg8b of a register", CODE(".byte 0x0f, 0xc7, 0xc8"), UD, 0);
    fault0("fe /2", CODE(".byte 0xfe, 0xd0"), UD, 0);
    fault0("ff /7", CODE(".byte 0xff, 0xf8"), UD, 0);
    fault0("0f ba /3", CODE(".byte 0x0f, 0xba, 0xd8, 0"), UD, 0);
    if (!skip_tcg("reg field of 8f and c7", "QEMU does not look at it")) {
        fault0("8f /1", CODE(".byte 0x8f, 0xc8, 0"), UD, 0);
        fault0("c7 /1", CODE(".byte 0xc7, 0xc8, 0, 0, 0, 0"), UD, 0);
    }
    fault0("far call of a register", CODE(".byte 0xff, 0xd8"), UD, 0);
    fault0("lgdt of a register", CODE(".byte 0x0f, 0x01, 0xd3"), UD, 0);
}

/* LOCK is for read-modify-write forms with a memory destination. */
static void lock_prefix(void)
{
    static u8 memory[64] __attribute__((aligned(64)));
    struct regs r;

    if (skip_tcg("LOCK prefix", "QEMU accepts it on many instructions"))
        return;
#define LOCKED(name, bytes)                                                                    \
    r = regs_kernel(), r.bx = (ulong)memory,                                                   \
    expect_fault("lock " name, &r, CODE(".byte 0xf0, " bytes), UD, 0)
#define LOCKED_OK(name, bytes)                                                                 \
    r = regs_kernel(), r.bx = (ulong)memory,                                                   \
    expect_done("lock " name, &r, CODE(".byte 0xf0, " bytes))

    LOCKED("nop", "0x90");
    LOCKED("add eax, ebx", "0x01, 0xd8");
    LOCKED("add eax, [rbx]", "0x03, 0x03");
    LOCKED("mov [rbx], eax", "0x89, 0x03");
    LOCKED("cmp [rbx], eax", "0x39, 0x03");
    LOCKED("cmp dword [rbx], 0", "0x83, 0x3b, 0");
    LOCKED("test [rbx], eax", "0x85, 0x03");
    LOCKED("push [rbx]", "0xff, 0x33");
    LOCKED("bt [rbx], eax", "0x0f, 0xa3, 0x03");
    LOCKED("shl dword [rbx], 1", "0xd1, 0x23");
    LOCKED("xchg eax, ebx", "0x93");
    LOCKED("bts eax, ebx", "0x0f, 0xab, 0xd8");
    LOCKED("movsb", "0xa4");
    LOCKED("jmp", "0xeb, 0");
    LOCKED("mov eax, cr3", "0x0f, 0x20, 0xd8");
    LOCKED("mul dword [rbx]", "0xf7, 0x23");
    LOCKED_OK("add [rbx], eax", "0x01, 0x03");
    LOCKED_OK("add dword [rbx], 1", "0x83, 0x03, 1");
    LOCKED_OK("inc dword [rbx]", "0xff, 0x03");
    LOCKED_OK("dec byte [rbx]", "0xfe, 0x0b");
    LOCKED_OK("not dword [rbx]", "0xf7, 0x13");
    LOCKED_OK("neg dword [rbx]", "0xf7, 0x1b");
    LOCKED_OK("xadd [rbx], eax", "0x0f, 0xc1, 0x03");
    LOCKED_OK("xchg [rbx], eax", "0x87, 0x03");
    LOCKED_OK("cmpxchg [rbx], ecx", "0x0f, 0xb1, 0x0b");
    LOCKED_OK("cmpxchg8b [rbx]", "0x0f, 0xc7, 0x0b");
    LOCKED_OK("cmpxchg16b [rbx]", "0x48, 0x0f, 0xc7, 0x0b");
    LOCKED_OK("bts [rbx], eax", "0x0f, 0xab, 0x03");
    LOCKED_OK("btc dword [rbx], 3", "0x0f, 0xba, 0x3b, 3");
    LOCKED_OK("sub qword [rbx], rax", "0x48, 0x29, 0x03");
}

static void canonical(void)
{
    struct regs r = regs_kernel();

    r.bx = NON_CANONICAL;
    expect_fault("read of a non-canonical address", &r, CODE("mov rax, [rbx]"), GP, 0);
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_fault("write to a non-canonical address", &r, CODE("mov [rbx], rax"), GP, 0);
    if (skip_tcg("other uses of non-canonical addresses", "QEMU has #GP at the target, no #SS"))
        return;
    r = regs_kernel();
    r.bp = NON_CANONICAL;
    expect_fault("non-canonical through RBP", &r, CODE("mov rax, [rbp]"), SS, 0);
    r = regs_kernel();
    r.sp = NON_CANONICAL;
    expect_fault("push to a non-canonical stack", &r, CODE("push rax"), SS, 0);
    r = regs_kernel();
    r.sp = NON_CANONICAL;
    expect_fault("pop from a non-canonical stack", &r, CODE("pop rax"), SS, 0);
    check_equal("RSP after the failed pop", r.sp, NON_CANONICAL);
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_fault("jump to a non-canonical address", &r, CODE("jmp rbx"), GP, 0);
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_fault("call to a non-canonical address", &r, CODE("call rbx"), GP, 0);
    check_equal("RSP after the failed call", r.sp, regs_kernel().sp);
    fault0("ret to a non-canonical address",
           CODE2("mov rax, 0x8000000000000000; push rax", "ret"), GP, 0);
    r = regs_kernel();
    r.bx = 0x00007ffffffffff9ul;
    expect_fault("read across the canonical boundary", &r, CODE("mov rax, [rbx]"), GP, 0);
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_done("prefetch of a non-canonical address", &r, CODE("prefetcht0 [rbx]"));
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_done("nop with a non-canonical operand", &r, CODE("nop dword ptr [rbx]"));
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_done("lea", &r, CODE("lea rax, [rbx]"));
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_done("invlpg of a non-canonical address does nothing", &r, CODE("invlpg [rbx]"));
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_fault("clflush of a non-canonical address", &r, CODE("clflush [rbx]"), GP, 0);
}

static void length(void)
{
    struct regs r = regs_kernel();

    expect_done("15 bytes", &r, CODE(".fill 14, 1, 0x66; .byte 0x90"));
    fault0("16 bytes", CODE(".fill 15, 1, 0x66; .byte 0x90"), GP, 0);
    fault0("16 bytes of an invalid opcode", CODE(".fill 15, 1, 0x66; .byte 0x0f, 0x0b"), GP, 0);
    fault0("endless prefixes", CODE(".fill 40, 1, 0x2e; .byte 0x90"), GP, 0);
}

static void privileged(void)
{
    fault3("hlt", CODE("hlt"), GP, 0);
    fault3("cli", CODE("cli"), GP, 0);
    fault3("sti", CODE("sti"), GP, 0);
    fault3("in", CODE("in al, 0x80"), GP, 0);
    fault3("out", CODE("out dx, al"), GP, 0);
    fault3("insb", CODE("insb"), GP, 0);
    fault3("rep outsd", CODE("rep outsd"), GP, 0);
    fault3("clts", CODE("clts"), GP, 0);
    fault3("mov cr0 read", CODE("mov rax, cr0"), GP, 0);
    fault3("mov cr3 write", CODE("mov cr3, rax"), GP, 0);
    fault3("mov cr8", CODE("mov rax, cr8"), GP, 0);
    fault3("mov dr7", CODE("mov rax, dr7"), GP, 0);
    fault3("rdmsr", CODE("rdmsr"), GP, 0);
    fault3("wrmsr", CODE("wrmsr"), GP, 0);
    fault3("lgdt", CODE("lgdt [rsp]"), GP, 0);
    fault3("lidt", CODE("lidt [rsp]"), GP, 0);
    fault3("lldt", CODE("lldt ax"), GP, 0);
    fault3("ltr", CODE("ltr ax"), GP, 0);
    fault3("lmsw", CODE("lmsw ax"), GP, 0);
    fault3("invd", CODE("invd"), GP, 0);
    fault3("wbinvd", CODE("wbinvd"), GP, 0);
    fault3("invlpg", CODE("invlpg [rax]"), GP, 0);
    fault3("swapgs", CODE("swapgs"), GP, 0);
    fault3("sysret", CODE("sysretq"), UD, 0); /* EFER.SCE is off: #UD has priority */
    fault3("rdpmc", CODE2("mov ecx, 0x7fffffff", "rdpmc"), GP, 0);
}

/* Software interrupts through gates that are absent, of a wrong type, or beyond the limit. */
static void gates(void)
{
    struct gate saved = idt[0x31];
    struct regs r;

    idt[0x31].low &= ~BIT(47);
    fault0("gate not present", CODE("int 0x31"), NP, idt_error(0x31, false));
    fault3("not present and DPL 0: privilege comes first", CODE("int 0x31"), GP,
           idt_error(0x31, false));
    idt[0x31].low = (saved.low & ~(15ull << 40)) | 6ull << 40;
    fault0("16-bit gate in long mode", CODE("int 0x31"), GP, idt_error(0x31, false));
    idt[0x31].low = (saved.low & ~(15ull << 40)) | 5ull << 40;
    fault0("task gate in long mode", CODE("int 0x31"), GP, idt_error(0x31, false));
    idt[0x31].low = (saved.low & ~(15ull << 40)) | 0xcull << 40;
    fault0("call gate in the IDT", CODE("int 0x31"), GP, idt_error(0x31, false));
    idt[0x31].low = saved.low | BIT(44);
    fault0("S bit set in the gate", CODE("int 0x31"), GP, idt_error(0x31, false));
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | (u64)KDATA << 16;
    fault0("gate to a data segment", CODE("int 0x31"), GP, KDATA);
    idt[0x31].low = saved.low & ~(0xffffull << 16);
    fault0("gate with a null selector", CODE("int 0x31"), GP, 0);
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | (u64)KCODE32 << 16;
    fault0("gate to a 32-bit code segment", CODE("int 0x31"), GP, KCODE32);
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | (u64)UCODE64 << 16;
    fault0("gate to an outer ring", CODE("int 0x31"), GP, UCODE64 & ~3);
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | 0x1f8ull << 16;
    fault0("gate to a selector within limit, empty descriptor", CODE("int 0x31"), GP, 0x1f8);
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | 0x2f8ull << 16;
    fault0("gate to a selector beyond the limit", CODE("int 0x31"), GP, 0x2f8);
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | 0xcull << 16;
    fault0("gate to a selector in the absent LDT", CODE("int 0x31"), GP, 0xc);
    idt[0x31] = saved;
    gdt_set(FREE, segment(0, 0, SEG_CODE | SEG_64) & ~BIT(47));
    idt[0x31].low = (saved.low & ~(0xffffull << 16)) | (u64)FREE << 16;
    fault0("gate to a code segment not present", CODE("int 0x31"), NP, FREE);
    idt[0x31] = saved;
    idt[0x31].high = 0x8000;
    if (!skip_tcg("gate to a non-canonical address", "QEMU faults at the target"))
        fault0("gate to a non-canonical address", CODE("int 0x31"), GP, 0);
    idt[0x31] = saved;
    idt_set_ist(0x31, 7);
    *(u64 *)&cpu_this()->tss[9 + 12] = NON_CANONICAL;
    fault0("non-canonical interrupt stack", CODE("int 0x31"), SS, 0);
    idt[0x31] = saved;
    idt_load(0x40 * 16 + 15);
    fault0("vector beyond the IDT limit", CODE("int 0x41"), GP, idt_error(0x41, false));
    idt_load(0x41 * 16 + 14);
    fault0("vector only partly within the IDT limit", CODE("int 0x41"), GP,
           idt_error(0x41, false));
    idt_load(0x41 * 16 + 15);
    r = regs_kernel();
    expect_trap("vector just within the IDT limit", &r, CODE("int 0x41"), 0x41);
    idt_load(256 * 16 - 1);
}

/* The stack of code under test once more, where its top page can be made read-only. */
#define STACK_ALIAS (PAGE_TEST + 0x4000000)
#define STACK_TOP   (STACK_ALIAS + STACK_SIZE)
static u32 stack_faults, divisions, absents, arrivals;
static struct gate good_gate;

static void map_stack(u64 flags)
{
    for (ulong at = 0; at < STACK_SIZE; at += 4096)
        page_map(STACK_ALIAS + at, stack_code() - STACK_SIZE + at, 1,
                 at < STACK_SIZE - 4096 ? PTE_P | PTE_W : flags);
}

static void on_stack_fault(struct regs *r)
{
    stack_faults++;
    check_equal("error code of the stack", r->error, PF_P | PF_W);
    map_stack(PTE_P | PTE_W);
}

static void on_division(struct regs *r)
{
    divisions++;
    r->cx = 10;
}

static void on_absent(struct regs *r)
{
    absents++;
    check_equal("error code of the gate", r->error, FREE);
    idt[0x31] = good_gate;
}

static void on_arrival(struct regs *r)
{
    (void)r;
    arrivals++;
}

/* An exception that cannot be delivered for its stack is not lost: #PF comes instead, and after
 * its IRET the instruction again. */
static void on_bad_stacks(void)
{
    struct gate de = idt[DE], np = idt[NP];
    struct regs r = regs_kernel();

    write_cr0(read_cr0() | CR0_WP);
    trap_set(PF, on_stack_fault);
    trap_set(DE, on_division);
    trap_set(NP, on_absent);
    trap_set(0x31, on_arrival);
    idt_set_ist(DE, 0);
    idt_set_ist(NP, 0);
    map_stack(PTE_P);
    r.sp = STACK_TOP - 1;
    r.ax = 1500;
    r.cx = r.dx = 0;
    expect_done("#DE on a read-only stack", &r, CODE("div rcx"));
    check_equal("quotient", r.ax, 150);
    check_equal("#PF of the stack", stack_faults, 1);
    check_equal("#DE", divisions, 1);
    map_stack(PTE_P);
    good_gate = idt[0x31];
    gdt_set(FREE, segment(0, 0, SEG_CODE | SEG_64) & ~BIT(47));
    idt[0x31].low = (idt[0x31].low & ~(0xffffull << 16)) | (u64)FREE << 16;
    r = regs_kernel();
    r.sp = STACK_TOP - 1;
    expect_done("#NP on a read-only stack", &r, CODE("int 0x31"));
    check_equal("#PF of the stack", stack_faults, 2);
    check_equal("#NP", absents, 1);
    check_equal("INT", arrivals, 1);
    idt[DE] = de;
    idt[NP] = np;
    trap_set(PF, NULL);
    trap_set(DE, NULL);
    trap_set(NP, NULL);
    trap_set(0x31, NULL);
    write_cr0(read_cr0() & ~CR0_WP);
}

/* A second exception while the first is delivered. */
static void nested(void)
{
    struct gate ud = idt[UD], gp = idt[GP], db = idt[DB], np = idt[NP], de = idt[DE],
                pf = idt[PF];
    struct regs r;

    idt[UD].low &= ~BIT(47);
    fault0("#UD through an absent gate: #NP with EXT", CODE("ud2"), NP, idt_error(UD, true));
    idt[UD] = ud;
    idt[DB].low &= ~BIT(47);
    r = regs_kernel();
    r.flags |= FLAG_TF;
    expect_fault("single step through an absent gate", &r, CODE2("nop", "nop"), NP,
                 idt_error(DB, true));
    if (!skip_tcg("icebp", "QEMU lacks it"))
        fault0("icebp through an absent gate", CODE(".byte 0xf1"), NP, idt_error(DB, true));
    fault0("int 1 through an absent gate: no EXT", CODE("int 1"), NP, idt_error(DB, false));
    idt[DB] = db;
    idt[NP].low &= ~BIT(47);
    idt[UD].low &= ~BIT(47);
    fault0("#UD, #NP, #NP: double fault", CODE("ud2"), DF, 0);
    idt[UD] = ud;
    idt[NP] = np;
    idt[GP].low &= ~BIT(47);
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_fault("#GP, #NP: double fault", &r, CODE("mov al, [rbx]"), DF, 0);
    idt[GP] = gp;
    idt[DE].low &= ~BIT(47);
    fault0("#DE, #NP: double fault", CODE("div rcx"), DF, 0);
    idt[DE] = de;
    idt[PF].low &= ~BIT(47);
    r = regs_kernel();
    r.bx = 0x40000000;
    expect_fault("#PF, #NP: double fault", &r, CODE("mov al, [rbx]"), DF, 0);
    check_equal("CR2 of the first fault", r.cr2, 0x40000000);
    idt[PF] = pf;
    idt_set_ist(PF, 2);
    *(u64 *)&cpu_this()->tss[9 + 2] = 0x50000000;
    r = regs_kernel();
    r.bx = 0x40000000;
    expect_fault("#PF on an unmapped stack: double fault", &r, CODE("mov al, [rbx]"), DF, 0);
    check_equal("CR2 of the second fault", r.cr2, 0x50000000 - 8);
    idt[PF] = pf;
    idt_set_ist(GP, 2);
    r = regs_kernel();
    r.bx = NON_CANONICAL;
    expect_fault("#GP on an unmapped stack: #PF", &r, CODE("mov al, [rbx]"), PF, 2);
    check_equal("CR2 of the stack", r.cr2, 0x50000000 - 8);
    idt[GP] = gp;
    idt_set_ist(UD, 2);
    fault0("#UD on an unmapped stack: #PF", CODE("ud2"), PF, 2);
    idt[UD] = ud;
    on_bad_stacks();
}

/* The frame of 64-bit mode: aligned to 16 bytes, SS and RSP always pushed. */
static void frame(void)
{
    struct regs r = regs_kernel();
    struct gate saved = idt[0x31];

    idt_set_ist(0x31, 0);
    r.sp -= 3;
    expect_trap("interrupt on an odd stack", &r, CODE("int 0x31"), 0x31);
    check_equal("RSP in the frame", r.sp, regs_kernel().sp - 3);
    check_equal("SS in the frame", r.ss, KDATA);
    r = regs_kernel();
    r.flags |= FLAG_IF | FLAG_AC | FLAG_DF | FLAG_CF | FLAG_ID | FLAG_NT;
    expect_trap("flags in the frame", &r, CODE("int 0x31"), 0x31);
    check_equal("RFLAGS", r.flags,
                2 | FLAG_IF | FLAG_AC | FLAG_DF | FLAG_CF | FLAG_ID | FLAG_NT);
    r = regs_kernel();
    r.flags |= FLAG_NT;
    expect_fault("iret with NT in 64-bit mode", &r, CODE("iretq"), GP, 0);
    idt[0x31] = saved;
    if (skip_tcg("RF in the frames", "QEMU does not set it"))
        return;
    r = regs_kernel();
    expect_fault("RF is set in the frame of a fault", &r, CODE("ud2"), UD, 0);
    check("RF", r.flags & FLAG_RF);
    r = regs_kernel();
    r.flags |= FLAG_RF;
    expect_trap("RF is clear in the frame of a trap", &r, CODE2("nop", "int 0x31"), 0x31);
    check("no RF", !(r.flags & FLAG_RF));
}

static void frame3(void)
{
    struct regs r = regs_user();

    expect_trap("stack of ring 3", &r, CODE("int3"), BP);
    check_equal("user SS", r.ss, UDATA);
    check_equal("user CS", r.cs, UCODE);
    check_equal("user RSP", r.sp, regs_user().sp);
}

void test(void)
{
    divide();
    undefined();
    lock_prefix();
    canonical();
    length();
    privileged();
    gates();
    nested();
    frame();
    frame3();
    software();
}
