/*
 * Leaving long mode and coming back: to 32-bit protected mode without paging, with 32-bit and
 * PAE paging, to real mode; EFER.LMA on the way, and the combinations that fault (SDM
 * 3A 9.8.5).
 */
#include "lib/page.h"
#include "lib/system.h"

static u64 idt32[32] __attribute__((aligned(8)));
static struct {
    u16 limit;
    u32 base;
} __attribute__((packed, aligned(4))) idtr32 = {sizeof(idt32) - 1, 0};
static struct table_register idtr64;

/* In 32-bit mode: counts in EBP, steps over the MOV to a control register (3 bytes) or
 * WRMSR. */
asm(".pushsection .code, \"ax\"\n.intel_syntax noprefix\n.code32\n"
    "handler32:\n"
    "    mov [fault32_error], eax\n"
    "    pop eax\n"
    "    xchg [fault32_error], eax\n"
    "    push ecx\n"
    "    mov ecx, [esp + 4]\n"
    "    inc dword ptr [fault32_count]\n"
    "    cmp word ptr [ecx], 0x300f\n"
    "    je 1f\n"
    "    inc ecx\n"
    "1:  add ecx, 2\n"
    "    mov [esp + 4], ecx\n"
    "    pop ecx\n"
    "    iretd\n"
    ".code64\n.att_syntax prefix\n.popsection\n");
extern const char handler32[];
volatile u32 fault32_count, fault32_error;

static void tables(void)
{
    u64 at = (ulong)handler32;

    for (unsigned v = 0; v < 32; v++)
        idt32[v] = (at & 0xffff) | (u64)KCODE32 << 16 | 0x8e0000000000 | (at >> 16) << 48;
    idtr32.base = (u32)(ulong)idt32;
    idtr64.limit = sizeof(idt) - 1;
    idtr64.base = (ulong)idt;
}

/* Begins with paging off, ends in compatibility mode again; EBX and EDI are the two IDTRs. */
#define LEAVE "lidt [ebx]; mov eax, cr0; and eax, 0x7fffffff; mov cr0, eax; "
#define ENTER                                                                                  \
    "mov eax, cr4; or eax, 0x20; mov cr4, eax; mov ecx, 0xc0000080; rdmsr; or eax, 0x100; "    \
    "wrmsr; mov eax, cr3; mov cr3, eax; mov eax, cr0; or eax, 0x80000000; mov cr0, eax; lidt " \
    "[edi]"

static struct regs leaving(void)
{
    struct regs r = regs_kernel();

    r.cs = KCODE32;
    r.bx = (ulong)&idtr32;
    r.di = (ulong)&idtr64;
    fault32_count = 0;
    return r;
}

static void protected_mode(void)
{
    struct regs r = leaving();

    expect_done("to protected mode and back", &r,
                CODE32(LEAVE "mov ecx, 0xc0000080; rdmsr; mov esi, eax; mov ebp, cr0; " ENTER));
    check_equal("LMA is clear without paging", r.si & (EFER_LMA | EFER_LME), EFER_LME);
    check_equal("PG was clear", r.bp & CR0_PG, 0);
    check_equal("no fault", fault32_count, 0);
    check_equal("LMA is back", rdmsr(MSR_EFER) & EFER_LMA, EFER_LMA);
}

static void refused(void)
{
    struct regs r = leaving();

    if (skip_tcg("refused changes of mode", "QEMU does not check them"))
        return;
    expect_done("PG with LME but without PAE", &r,
                CODE32(LEAVE "mov eax, cr4; and eax, 0xffffffdf; mov cr4, eax; "
                             "mov eax, cr0; or eax, 0x80000000; mov cr0, eax; "
                             "mov esi, cr0; " ENTER));
    check_equal("#GP", fault32_count, 1);
    check_equal("error code 0", fault32_error, 0);
    check_equal("PG stayed clear", r.si & CR0_PG, 0);
    r = leaving();
    r.cs = KCODE32;
    expect_fault("LME cleared while paging", &r,
                 CODE_IN(".code32", "mov ecx, 0xc0000080; rdmsr; and eax, 0xfffffeff", "wrmsr"),
                 GP, 0);
    r = leaving();
    expect_fault("PAE cleared in compatibility mode", &r,
                 CODE_IN(".code32", "mov eax, cr4; and eax, 0xffffffdf", "mov cr4, eax"), GP,
                 0);
    r = leaving();
    expect_fault("PE cleared while paging", &r,
                 CODE_IN(".code32", "mov eax, cr0; and eax, 0xfffffffe", "mov cr0, eax"), GP,
                 0);
}

static u32 directory[1024] __attribute__((aligned(4096)));

static void paged_32(void)
{
    struct regs r = leaving();
    ulong cr3 = read_cr3();

    for (u32 i = 0; i < 16; i++)
        directory[i] = i << 22 | 0x83;
    directory[PAGE_TEST >> 22] = 0x2000000 | 0x83;
    *(volatile u32 *)0x2000040 = 0xfeedface;
    r.si = (ulong)directory;
    r.bp = cr3;
    expect_done("32-bit paging in between", &r,
                CODE32(LEAVE
                       "mov ecx, 0xc0000080; rdmsr; and eax, 0xfffffeff; wrmsr; "
                       "mov eax, cr4; and eax, 0xffffffdf; or eax, 0x10; mov cr4, eax; "
                       "mov cr3, esi; mov eax, cr0; or eax, 0x80000000; mov cr0, eax; "
                       "mov edx, [0x40000040]; push edx; "
                       "mov eax, cr0; and eax, 0x7fffffff; mov cr0, eax; mov cr3, ebp; " ENTER
                       "; pop edx"));
    check_equal("read through 32-bit tables", r.dx, 0xfeedface);
    check_equal("CR3 is back", read_cr3(), cr3);
    check_equal("no fault", fault32_count, 0);
}

/* Down to real mode: copied below 1 MiB, entered by a far jump, and back the same way. */
asm(".pushsection .code, \"ax\"\n.intel_syntax noprefix\n.code16\n"
    "real_begin:\n"
    "    mov ax, 0x48\n" /* 16-bit data */
    "    mov ds, ax\n"
    "    mov es, ax\n"
    "    mov ss, ax\n"
    "    mov eax, cr0\n"
    "    and al, 0xfe\n"
    "    mov cr0, eax\n"
    "    ljmp 0x700, 1f - real_begin\n"
    "1:  mov ax, 0x700\n"
    "    mov ds, ax\n"
    "    mov ss, ax\n"
    "    mov sp, 0x800\n"
    "    mov word ptr [0x400], cs\n"
    "    smsw word ptr [0x402]\n"
    "    push cs\n"
    "    call 2f\n"
    "    jmp 3f\n"
    "2:  mov word ptr [0x404], 0x77\n"
    "    retf\n"
    "3:  mov eax, cr0\n"
    "    or al, 1\n"
    "    mov cr0, eax\n"
    "    .byte 0x66, 0xea\n"
    "real_back:\n"
    "    .long 0\n"
    "    .word 0x38\n"
    "real_end:\n"
    ".code64\n.att_syntax prefix\n.popsection\n");
extern const char real_begin[], real_end[], real_back[];

static void real_mode(void)
{
    volatile u8 *to = (volatile u8 *)0x7000;
    struct regs r = leaving();
    struct code code = CODE32(LEAVE "mov [0x7500], esp; ljmp 0x40, 0x7000");
    struct code back = CODE32("mov eax, 0x10; mov ds, eax; mov es, eax; mov ss, eax; "
                              "mov esp, [0x7500]; " ENTER);

    for (const char *p = real_begin; p < real_end; p++)
        *to++ = *p;
    *(volatile u32 *)(0x7000 + (real_back - real_begin)) = (u32)(ulong)back.start;
    r.ip = (ulong)code.start;
    regs_run(&r);
    check_equal("from long to real mode and back", r.vector, VECTOR_END);
    check_equal("it ends at the end", r.ip, (ulong)back.end + 2);
    check_equal("CS in real mode", *(volatile u16 *)0x7400, 0x700);
    check_equal("PE in real mode", *(volatile u16 *)0x7402 & 1, 0);
    check_equal("call and return", *(volatile u16 *)0x7404, 0x77);
}

void test(void)
{
    tables();
    for (unsigned round = 0; round < 5; round++) {
        protected_mode();
        paged_32();
        real_mode();
    }
    refused();
}
