/*
 * Real mode: entered from protected mode and left again; vectors through the table at 0, limits
 * kept from protected mode ("unreal"), and the way a stray double or triple fault does not
 * come.
 */
#include "lib/system.h"

/* real.S-like part below: runs the code at 0x9000 in real mode and returns to protected
 * mode. */
enum { CODE_AT = 0x9000, SEGMENT = 0x900, STACK_SEGMENT = 0x1000 };

/* What real-mode code starts and ends with; the layout is known to the assembly. */
struct real {
    u32 ax, bx, cx, dx, si, di, bp, ds, es;
    u32 vector;    /* that ended it; 0x40 is the end of the code */
    u32 ip, flags; /* as pushed */
};

static volatile struct real *const state = (volatile struct real *)0x8e00;
static volatile u32 *const ivt = (volatile u32 *)0;
static u32 left[256]; /* the vectors as they were */
static const char *code_start, *code_at, *code_end;

/* Copied to 0x8000: the switch to real mode and back. */
asm(".pushsection .code, \"ax\"\n"
    ".intel_syntax noprefix\n"
    ".code32\n"
    "real_begin:\n"
    "    mov [0x8f80], esp\n"
    "    lidt [0x8000 + real_idt - real_begin]\n"
    "    ljmp 0x40, 0x8000 + 1f - real_begin\n"
    ".code16\n"
    "1:  mov ax, 0x48\n"
    "    mov ds, ax\n"
    "    mov es, ax\n"
    "    mov ss, ax\n"
    "    mov fs, [0x8f90]\n" /* may have a large limit, for unreal mode */
    "    mov gs, ax\n"
    "    mov eax, cr0\n"
    "    and al, 0xfe\n"
    "    mov cr0, eax\n"
    "    ljmp 0x800, 2f - real_begin\n"
    "2:  xor ax, ax\n"
    "    mov ds, ax\n"
    "    mov ax, 0x1000\n"
    "    mov ss, ax\n"
    "    mov esp, 0x8000\n"
    "    mov ebx, [0x8e04]\n"
    "    mov ecx, [0x8e08]\n"
    "    mov edx, [0x8e0c]\n"
    "    mov esi, [0x8e10]\n"
    "    mov edi, [0x8e14]\n"
    "    mov ebp, [0x8e18]\n"
    "    mov es, [0x8e20]\n"
    "    mov eax, [0x8e00]\n"
    "    push word ptr [0x8e1c]\n"
    "    pop ds\n"
    "    ljmp 0x900, 0\n"
    /* each vector: a short jump of the same length, its number pushed */
    "    .balign 16\n"
    "real_vectors:\n"
    "    .set vec, 0\n"
    "    .rept 256\n"
    "    .byte 0x68\n"
    "    .word vec\n"
    "    .byte 0xe9\n"
    "    .word real_common - (. + 2)\n"
    "    .set vec, vec + 1\n"
    "    .endr\n"
    "real_common:\n"
    "    push ds\n"
    "    push 0\n"
    "    pop ds\n"
    "    mov [0x8e00], eax\n"
    "    mov [0x8e04], ebx\n"
    "    mov [0x8e08], ecx\n"
    "    mov [0x8e0c], edx\n"
    "    mov [0x8e10], esi\n"
    "    mov [0x8e14], edi\n"
    "    mov [0x8e18], ebp\n"
    "    mov [0x8e20], es\n"
    "    pop word ptr [0x8e1c]\n"
    "    pop word ptr [0x8e24]\n"
    "    pop word ptr [0x8e28]\n"
    "    pop word ptr [0x8f88]\n" /* CS */
    "    pop word ptr [0x8e2c]\n"
    "    mov [0x8f8c], sp\n"
    "    mov eax, cr0\n"
    "    or al, 1\n"
    "    mov cr0, eax\n"
    "    .byte 0x66, 0xea\n"
    "    .long 0x8000 + 3f - real_begin\n"
    "    .word 0x08\n"
    ".code32\n"
    "3:  mov eax, 0x10\n"
    "    mov ds, eax\n"
    "    mov es, eax\n"
    "    mov ss, eax\n"
    "    xor eax, eax\n"
    "    mov fs, eax\n"
    "    mov gs, eax\n"
    "    mov esp, [0x8f80]\n"
    "    cld\n"
    "    ret\n"
    "real_idt:\n"
    "    .word 0x3ff\n"
    "    .long 0\n"
    "real_end:\n"
    ".att_syntax prefix\n"
    ".popsection\n");

extern const char real_begin[], real_end[], real_vectors[];

static void set_up(void)
{
    volatile char *to = (volatile char *)0x8000;

    for (const char *p = real_begin; p < real_end; p++)
        *to++ = *p;
    for (unsigned v = 0; v < 256; v++)
        left[v] = ivt[v];
    for (unsigned v = 0; v < 256; v++)
        ivt[v] = 0x800u << 16 | (u32)(real_vectors - real_begin + 6 * v);
    *(volatile u32 *)0x8f90 = KDATA16;
}

/* Runs `code` in real mode, at SEGMENT:0, with DS = 0x2000 and ES = 0x3000. */
static void run(struct code code)
{
    volatile char *to = (volatile char *)CODE_AT;

    for (const char *p = code.start; p < code.end + 2; p++)
        *to++ = *p;
    code_start = code.start;
    code_at = code.at;
    code_end = code.end;
    state->ds = 0x2000;
    state->es = 0x3000;
    asm volatile("pusha; mov $0x8000, %%eax; call *%%eax; popa" ::: "memory", "cc");
    idt_load(sizeof(struct gate) * 256 - 1);
}

static bool done(const char *name, struct code code)
{
    run(code);
    if (!check_equal(name, state->vector & 0xffff, VECTOR_END)) {
        print("     at %x\n", state->ip & 0xffff);
        return false;
    }
    return check_equal(name, state->ip & 0xffff, code.end + 2 - code.start);
}

static void fault(const char *name, struct code code, unsigned vector)
{
    run(code);
    check_equal(name, state->vector & 0xffff, vector);
    check_equal("IP", state->ip & 0xffff, code.at - code.start);
    check_equal("no error code is pushed", *(volatile u16 *)0x8f8c, 0x8000);
}

#define REAL(text)       CODE16(text)
#define REAL2(pre, text) CODE_IN(".code16", pre, text)

static void basics(void)
{
    done("registers", REAL("mov ax, cs; mov bx, ss; mov cx, sp; smsw dx"));
    check_equal("CS", state->ax & 0xffff, SEGMENT);
    check_equal("SS", state->bx & 0xffff, STACK_SEGMENT);
    check_equal("SP", state->cx & 0xffff, 0x8000);
    check_equal("PE", state->dx & 1, 0);
    *(volatile u32 *)0x2fffe = 0x11223344;
    done("wrapped addressing", REAL("mov si, 0x8000; mov bx, 0x7ffe; mov al, [bx + si]"));
    check_equal("value", state->ax & 0xff, 0x44);
    done("IP is 16 bits", REAL("mov ax, 0x1234; jmp 1f; ud2; 1:"));
    done("far jump to another segment and back",
         REAL("jmp 1f; 2: retf; 1: push cs; push offset 3f - 661b; "
              "push 0x0800; push 0x1000 + 2b - 661b; retf; 3:"));
    done("seg:off aliases", REAL("mov ax, 0x2fff; mov ds, ax; mov eax, [0xe]"));
    check_equal("value", state->ax, 0x11223344);
    done("A20: ffff:0010 is 1 MiB",
         REAL("mov ax, 0xffff; mov ds, ax; mov eax, [0x10]; mov bx, 0; mov ds, bx"));
    check_equal("the kernel's header", state->ax, *(volatile u32 *)0x100000);
    done("flags", REAL("push dword ptr 0x00247ed7; popfd; pushfd; pop eax; push 2; popf"));
    check_equal("IF, IOPL, NT may be changed", state->ax & 0x7fd7, 0x7ed7);
    done("lahf after popf", REAL("push 0xd7; popf; lahf; push 2; popf"));
    check_equal("AH", state->ax >> 8 & 0xff, 0xd7);
    done("mov cr0", REAL("mov eax, cr0"));
    done("cpuid", REAL("xor eax, eax; cpuid"));
    done("sgdt and sidt", REAL("sidt [0]; mov ax, [0]"));
    check_equal("IDT limit", state->ax & 0xffff, 0x3ff);
    done("32-bit operands and addresses", REAL("mov ebx, 0xfffe; mov al, [ebx]"));
    done("string across",
         REAL("mov cx, 4; mov si, 0xfffe; mov di, 0; cld; rep movsb; mov ax, si"));
    check_equal("SI wraps", state->ax & 0xffff, 2);
    done("loop counts CX", REAL("mov ecx, 0x10003; xor ax, ax; 1: inc ax; loop 1b"));
    check_equal("rounds", state->ax & 0xffff, 3);
    done("push of 16 and 32 bits",
         REAL("push dword ptr 0x12345678; pop bx; pop ax; mov cx, sp"));
    check_equal("SP", state->cx & 0xffff, 0x8000);
    done("enter and leave", REAL("enter 8, 1; mov ax, sp; leave; mov bx, sp"));
    check_equal("SP in the frame", state->ax & 0xffff, 0x8000 - 4 - 8);
    check_equal("SP after", state->bx & 0xffff, 0x8000);
    done("pusha",
         REAL("mov ax, 1; mov bx, 4; pusha; pop cx; pop cx; pop cx; pop dx; add sp, 8"));
    check_equal("SP as pusha pushes it", state->dx & 0xffff, 0x8000);
}

static void faults(void)
{
    fault("divide by zero", REAL2("xor cx, cx", "div cx"), DE);
    fault("ud2", REAL("ud2"), UD);
    fault("bound",
          REAL2("mov word ptr [0], 5; mov word ptr [2], 6; mov ax, 7", "bound ax, [0]"), BR);
    fault("lldt", REAL("lldt ax"), UD);
    fault("str", REAL("str ax"), UD);
    fault("lar", REAL("lar ax, bx"), UD);
    fault("verr", REAL("verr ax"), UD);
    fault("arpl", REAL("arpl ax, bx"), UD);
}

static void soft(void)
{
    run(REAL("int3"));
    check_equal("int3", state->vector & 0xffff, BP);
    check_equal("IP after", state->ip & 0xffff, 1);
    run(REAL2("mov al, 0x7f; add al, 1", "into"));
    check_equal("into", state->vector & 0xffff, OF);
    run(REAL("pushf; or word ptr ss:[0x7ffe], 0x200; popf; int 0x77"));
    check_equal("int n", state->vector & 0xffff, 0x77);
    check("flags are pushed with IF", state->flags & FLAG_IF);
    done("iret", REAL("pushf; push cs; push offset 1f - 661b; iret; ud2; 1:"));
    done("a handler of its own",
         REAL("push ds; push 0; pop ds; mov word ptr [0x60 * 4], offset 1f - 661b; "
              "mov [0x60 * 4 + 2], cs; pop ds; mov ax, 3; int 0x60; jmp 2f; "
              "1: add ax, 4; iret; 2:"));
    check_equal("AX", state->ax & 0xffff, 7);
    run(REAL2("pushf; or word ptr ss:[0x7ffe], 0x100; popf", "nop"));
    check_equal("single step", state->vector & 0xffff, DB);
    asm volatile("mov %0, %%dr6" ::"r"(0xffff0ff0ul));
}

static void limits(void)
{
    if (skip_tcg("limits", "QEMU does not check them"))
        return;
    fault("word at ffff", REAL2("mov bx, 0xffff", "mov ax, [bx]"), GP);
    fault("word at ffff through BP", REAL2("mov bp, 0xffff", "mov ax, [bp]"), SS);
    fault("offset above 64 KiB", REAL2("mov ebx, 0x10000", "mov al, [ebx]"), GP);
    fault("dword at fffd", REAL2("mov bx, 0xfffd", "mov eax, [bx]"), GP);
}

/* Limits and bases that a segment register kept from protected mode. */
static void unreal(void)
{
    *(volatile u32 *)0x8f90 = KDATA; /* 4 GiB limit */
    *(volatile u32 *)0x300000 = 0xcafebabe;
    done("large offset in real mode", REAL("mov ebx, 0x300000; mov eax, fs:[ebx]"));
    check_equal("value", state->ax, 0xcafebabe);
    done("write", REAL("mov ebx, 0x300000; mov dword ptr fs:[ebx], 0x55aa55aa"));
    check_equal("value", *(volatile u32 *)0x300000, 0x55aa55aa);
    done("a load keeps the limit",
         REAL("xor ax, ax; mov fs, ax; mov ebx, 0x300000; mov eax, fs:[ebx]"));
    check_equal("value", state->ax, 0x55aa55aa);
    done("and changes the base",
         REAL("mov ax, 0x10; mov fs, ax; mov ebx, 0x2fff00; mov eax, fs:[ebx]"));
    check_equal("value", state->ax, 0x55aa55aa);
    *(volatile u32 *)0x8f90 = KDATA16;
    if (!on_tcg())
        fault("normal again", REAL2("mov ebx, 0x300000", "mov eax, fs:[ebx]"), GP);
}

/* SMAP and SMEP keep the kernel from user pages, of which there are none here (SDM vol.
 * 3, 4.6); kernels that wake from S3 set CR4 in real mode. */
static void user_pages(void)
{
    if (~cpuid(7, 0).b & (1u << 20 | 1u << 7))
        return;
    *(volatile u32 *)0x20000 = 0x1234;
    done("SMAP and SMEP in real mode",
         REAL("mov ecx, cr4; mov eax, ecx; or eax, 0x300000; mov cr4, eax; mov bx, [0]; "
              "mov [4], bx; jmp 1f; 1: mov cr4, ecx"));
    check_equal("what is read", state->bx & 0xffff, 0x1234);
    check_equal("what is written", *(volatile u16 *)0x20004, 0x1234);
}

/* A short vector table: a vector beyond it is #GP, one more #GP fault is a double fault. */
static void short_table(void)
{
    if (skip_tcg("limit of the vector table", "QEMU does not check it"))
        return;
    run(REAL2("push ds; push 0; pop ds; mov word ptr [0x600], 0x103; mov dword ptr [0x602], 0; "
              "lidt [0x600]; pop ds",
              "int 0x50"));
    check_equal("vector beyond the limit", state->vector & 0xffff, GP);
    check_equal("IP", state->ip & 0xffff, code_at - code_start);
}

/* What a BIOS left answers: a service that it has, and one that nobody has. */
static void bios(void)
{
    u32 ours[256];
    for (unsigned v = 0; v < 256; v++) {
        ours[v] = ivt[v];
        if (v != VECTOR_END)
            ivt[v] = left[v];
    }
    done("memory size", REAL("int 0x12"));
    check("is near 640", (state->ax & 0xffff) > 600 && (state->ax & 0xffff) <= 640);
    done("unknown service", REAL("mov ax, 0xee00; clc; int 0x15; setc bl"));
    check_equal("carry", state->bx & 0xff, 1);
    check_equal("AH", state->ax >> 8 & 0xff, 0x86);
    done("interrupts", REAL("int 0x08; int 0x70; sti; nop; cli"));
    for (unsigned v = 0; v < 256; v++)
        ivt[v] = ours[v];
}

/* The tick as a BIOS has it: IRQ 0 at vector 8, open, 18.2 times a second. */
void test_before(void)
{
    set_up();
    run(REAL("sti; 1: hlt; jmp 1b"));
    check_equal("what ends a HLT", state->vector & 0xffff, 8);
    outb(0x20, 0x20);
    for (unsigned v = 0; v < 256; v++)
        ivt[v] = left[v];
}

/* To real mode and back again and again, each time with other code at the same place. */
static void rounds(void)
{
    u32 wrong = 0;
    for (unsigned n = 0; n < 300; n++) {
        if (n & 1)
            run(REAL("mov ax, 0x1111; mov cx, 9; 1: add ax, cx; loop 1b"));
        else
            run(REAL("mov ax, 0x2222; mov cx, 9; 1: sub ax, cx; loop 1b"));
        wrong += (state->ax & 0xffff) != (n & 1 ? 0x1111 + 45 : 0x2222 - 45);
    }
    check_equal("wrong rounds", wrong, 0);
    done("code that changes itself",
         REAL("push cs; pop ds; mov cx, 100; xor bx, bx; 1: add bx, 1; 2: "
              "inc byte ptr [2b - 1 - 661b]; loop 1b"));
    check_equal("sum of the constants", state->bx & 0xffff, 5050);
    done("segments in a loop",
         REAL("mov cx, 200; xor dx, dx; mov ax, 0x2000; 1: mov ds, ax; mov es, ax; "
              "mov [0x10], cx; inc ax; mov ds, ax; add dx, [0]; les di, [0]; add dx, di; "
              "mov ax, es; mov ax, ds; loop 1b"));
    check_equal("sum of what was stored", state->dx & 0xffff, 2 * 20100);
}

void test(void)
{
    set_up();
    bios();
    basics();
    faults();
    soft();
    limits();
    unreal();
    user_pages();
    rounds();
    short_table();
}
