/*
 * Short pieces of 16- and 32-bit code, each run on the simulator and on the translator from the
 * same state, in flat and other segments: registers, flags and all of memory must come out
 * equal. Each piece ends with HLT, or in the handler of an exception, which halts too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"

/* Protected mode: where segments with a base begin. SP stands at TOP. */
#define STACK_BASE 0x2f0000ull
#define TOP        0x8000ull
/* Real mode. */
#define REAL_CODE  0x20000ull
#define REAL_DATA  0x30000ull
#define REAL_STACK 0x50000ull
#define IVT        0x7000ull
#define HANDLERS   0xb000ull /* those of the fixture are valid 16-bit code too */

#define ATTR_DATA (SEG_P | SEG_S | SEG_WRITE | SEG_ACCESSED)
#define ATTR_CODE (SEG_P | SEG_S | SEG_CODE | SEG_READ | SEG_ACCESSED)

struct setting {
    const char *name;
    bool real;
    struct x86_seg cs, ds, es, ss, fs, gs;
};

#define WHOLE_SEG(attr, base)                                                                  \
    {                                                                                          \
        16, (attr) | SEG_DB | SEG_G, 0xffffffff, base                                          \
    }

static const struct setting settings_32[] = {
    {.name = "flat",
     .cs = WHOLE_SEG(ATTR_CODE, 0),
     .ds = WHOLE_SEG(ATTR_DATA, 0),
     .es = WHOLE_SEG(ATTR_DATA, 0),
     .ss = WHOLE_SEG(ATTR_DATA, 0),
     .fs = WHOLE_SEG(ATTR_DATA, DATA + 0x1000),
     .gs = WHOLE_SEG(ATTR_DATA, DATA + 0x2000)},
    {.name = "based",
     .cs = {16, ATTR_CODE | SEG_DB, 0x2fff, CODE - 0x1230},
     .ds = {16, ATTR_DATA | SEG_DB, 0x3fff, DATA},
     .es = {16, ATTR_DATA, 0x3fff, DATA},
     .ss = {16, ATTR_DATA | SEG_DB, 0xffff, STACK_BASE},
     .fs = {16, ATTR_DATA, 0x17, DATA + 0x1234},
     .gs = WHOLE_SEG(ATTR_CODE, DATA + 0x2000)},
    {.name = "expand-down",
     .cs = WHOLE_SEG(ATTR_CODE, CODE - 0x1234),
     .ds = {16, ATTR_DATA | SEG_DOWN | SEG_DB, 0xff, DATA},
     .es = {16, ATTR_DATA | SEG_DOWN, 0xfff, DATA},
     .ss = {16, ATTR_DATA | SEG_DOWN | SEG_DB, 0x7fbf, STACK_BASE},
     .fs = {16, SEG_NULL, 0, 0},
     .gs = {16, SEG_P | SEG_S | SEG_ACCESSED, 0xffff, DATA}},
    {.name = "16-bit stack",
     .cs = {16, ATTR_CODE | SEG_DB, 0xffffffff, 0},
     .ds = {16, ATTR_DATA | SEG_DB, 0xffffffff, 0},
     .es = {16, ATTR_DATA | SEG_DB, 0xffffffff, 0},
     .ss = {16, ATTR_DATA, 0xffff, STACK_BASE},
     .fs = WHOLE_SEG(ATTR_DATA, DATA + 0x1000),
     .gs = {16, SEG_NULL, 0, 0}},
};

static const struct setting settings_16[] = {
    {.name = "protected",
     .cs = {16, ATTR_CODE, 0xffff, CODE - 0x1230},
     .ds = {16, ATTR_DATA, 0x3fff, DATA},
     .es = {16, ATTR_DATA, 0x3fff, DATA},
     .ss = {16, ATTR_DATA, 0xffff, STACK_BASE},
     .fs = {16, ATTR_DATA, 0xffff, DATA + 0x1000},
     .gs = {16, SEG_NULL, 0, 0}},
    {.name = "32-bit stack",
     .cs = {16, ATTR_CODE, 0x9fff, CODE - 0x230},
     .ds = WHOLE_SEG(ATTR_DATA, DATA),
     .es = WHOLE_SEG(ATTR_DATA, DATA),
     .ss = {16, ATTR_DATA | SEG_DB, 0xffff, STACK_BASE},
     .fs = {16, ATTR_DATA | SEG_DOWN, 0xfff, DATA},
     .gs = WHOLE_SEG(ATTR_DATA, DATA)},
    {.name = "real",
     .real = true,
     .cs = {0x1fe0, ATTR_DATA | SEG_CODE, 0xffff, REAL_CODE - 0x200},
     .ds = {0x3000, ATTR_DATA, 0xffff, REAL_DATA},
     .es = {0x3000, ATTR_DATA, 0xffff, REAL_DATA},
     .ss = {0x5000, ATTR_DATA, 0xffff, REAL_STACK},
     .fs = {0x3100, ATTR_DATA, 0xffff, REAL_DATA + 0x1000},
     .gs = {0x3200, ATTR_DATA, 0xffff, REAL_DATA + 0x2000}},
    {.name = "unreal", /* flat until a segment register is loaded */
     .real = true,
     .cs = {0x1fe0, ATTR_DATA | SEG_CODE, 0xffff, REAL_CODE - 0x200},
     .ds = WHOLE_SEG(ATTR_DATA, 0),
     .es = WHOLE_SEG(ATTR_DATA, 0),
     .ss = {0, ATTR_DATA | SEG_G, 0xffffffff, 0},
     .fs = WHOLE_SEG(ATTR_DATA, 0),
     .gs = WHOLE_SEG(ATTR_DATA, 0)},
};

struct piece {
    const char *name;
    const u8 *start, *end;
    bool code16;
};

/* EBX and ESI point to data, in `based` settings as offsets. Labels bend themselves to where
 * the code is: branches are relative. */
#define PIECES_32(X)                                                                           \
    X(registers, "mov $5, %eax; inc %ecx; dec %dx; inc %di; lea 3(%eax,%edx,4), %edi;"         \
                 "imul $7, %edi, %ebp; xchg %eax, %ebp; cwtl; cltd; bswap %ecx; shl $3, %edx;" \
                 "setc %ah; movzbl %ah, %ebp; cmovc %ecx, %edx; popcnt %edx, %edx;"            \
                 ".byte 0x82, 0xc1, 0x05; hlt") /* add $5, %cl by its old twin */              \
    X(loads, "mov 8(%ebx), %eax; mov (%esi), %cl; movzwl 6(%esi), %edx; movsbw (%ebx), %di;"   \
             "mov %fs:8, %ebp; mov %gs:16, %ebp; hlt")                                         \
    X(stores, "mov %eax, (%ebx); movb %ah, 24(%ebx); movw $7, 16(%esi); movl $-5, 4(%ebx);"    \
              "mov %ebp, %fs:0x10; mov %dh, %fs:0x17; hlt")                                    \
    X(flag_words,                                                                              \
      "stc; pushf; cli; popf; setc %al; push $0x8d7; popf; pushf; pop %edx; push $2; "         \
      "popf; seto %bl; push $0x3202; popf; pushf; push $0x203002; popf; pushf; pushw "         \
      "$0xad7; popfw; pushf; pushfw; popw %di; hlt")                                           \
    X(flag_word_fault, "stc; mov $0x400000, %esp; pushf; hlt")                                 \
    X(segment_loads,                                                                           \
      "cmp %ecx, %edx; mov $0x10, %eax; mov %eax, %fs; mov %eax, %es; push $0x10; "            \
      "pop %gs; pushw $0x10; popw %es; mov %gs:0x200010, %ecx; mov %es:0x200020, "             \
      "%edx; movw $0x10, 8(%ebx); mov 8(%ebx), %fs; mov %fs, 20(%ebx); push $0; pop %fs; mov " \
      "%eax, %ds; mov %eax, %ds; pushf; mov 0x200014, "                                        \
      "%ebp; push $8; pop %fs; mov $0x13, %eax; mov %eax, %es; hlt")                           \
    X(segment_beyond, "stc; mov $0x38, %eax; mov %eax, %fs; hlt")                              \
    X(segment_null, "xor %eax, %eax; mov %eax, %es; stc; mov %es:(%ebx), %ecx; hlt")           \
    X(fault_fs, "stc; mov %ebp, %fs:0x16; hlt")                                                \
    X(fault_gs_write, "mov %gs:0x10, %eax; movl $3, %gs:0x10; hlt")                            \
    X(modify, "add %eax, (%ebx); adc %ecx, 8(%ebx); sbb %edx, (%esi); incl 4(%ebx);"           \
              "xadd %eax, (%esi); lock cmpxchg %edx, (%esi); negw (%esi); notb (%ebx);"        \
              "shll %cl, 32(%ebx); btsl $3, 56(%ebx); btl %ecx, 0x300(%esi);"                  \
              "lock cmpxchg8b 8(%ebx); adc %eax, (%ebx); hlt")                                 \
    X(bits, "mov $-37, %eax; bts %eax, 0x100(%ebx); mov $100, %edx; btc %edx, (%ebx);"         \
            "mov $-500, %ecx; bt %ecx, 0x200(%esi); setc %dl; bt %dx, 2(%esi); hlt")           \
    X(address16, "mov %bx, %di; addr16 lea 5(%bx,%di), %edx; addr16 lea -5(%bx), %cx;"         \
                 "lea -7(%ebx), %di; addr16 lea 0x1234, %ecx; lea 0x12345678, %ebp; hlt")      \
    X(plain_offset, ".byte 0xa1; .long 0x200110; mov %eax, %ecx; .byte 0xa3; .long 0x200210;"  \
                    ".byte 0x66, 0xa1; .long 0x110; .byte 0xa0; .long 0x112; .byte 0xa2;"      \
                    ".long 0x113; hlt")                                                        \
    X(stack,                                                                                   \
      "push %eax; push $-3; push $0x12345; push (%ebx); push %esp; pushw %cx; pushw $7;"       \
      "pop %ecx; pop %edx; pop %di; popw %bp; push %ebp; mov %esp, %ebp; sub $32, %esp;"       \
      "mov %eax, -8(%ebp); leave; pop %edx; push %ds; push %fs; pushw %es; popw %ax;"          \
      "push %eax; push %ebp; pop 16(%ebx); pop 12(%esp); pop %eax; pop 8(%ebx); pushw %sp; "   \
      "popw %sp; push %esp; pop %esp; hlt")                                                    \
    X(all,                                                                                     \
      "pusha; mov $3, %esi; popa; pushaw; popaw; pushf; popf; pushfw; popfw; enter $8, $1;"    \
      "leave; hlt")                                                                            \
    X(calls,                                                                                   \
      "mov $3, %edi; 1: call 2f; dec %edi; jnz 1b; call 6f; 6: pop %eax; add $(3f-6b), "       \
      "%eax; mov %eax, %ecx; call *%ecx; push %eax; call *(%esp); pop %eax; mov %eax, "        \
      "(%ebx); call *(%ebx); jmp 4f; 2: add $7, %edx; ret; 3: sub $9, %edx; ret $0;"           \
      "4: push %eax; push %eax; call 5f; hlt; 5: ret $8")                                      \
    X(loops, "xor %eax, %eax; mov $1000, %ecx; 1: add %ecx, %eax; loop 1b; mov $77, %ecx;"     \
             "2: lea 1(%eax), %eax; cmp $50, %ecx; loopne 2b; xor %ecx, %ecx; jecxz 3f;"       \
             "ud2; 3: mov $0x10003, %ecx; 4: imul $3, %eax; addr16 loop 4b;"                   \
             "5: inc %edx; cmp %edx, %edx; addr16 loope 5b; jcxz 6f; inc %ebp; 6: hlt")        \
    X(strings,                                                                                 \
      "mov %ebx, %edi; movsb; movsw; movsl; stosb; stosw; stosl; lodsb; lodsw; lodsl;"         \
      "scasb; setc %dl; scasl; setz %dh; cmpsb; cmpsw; cmpsl; pushf; pop %ebp;"                \
      "mov $5, %ecx; rep movsb; mov $9, %ecx; rep stosl; mov $3, %ecx; rep movsw;"             \
      "mov $7, %ecx; repne scasb; mov $9, %ecx; repe cmpsl; xor %ecx, %ecx; rep stosb;"        \
      "addr16 lodsb; fs lodsb; hlt")                                                           \
    X(string_end, "lea 0x3e00(%ebx), %edi; mov $0x10, %ecx; rep stosl; mov $0x200, %ecx;"      \
                  "rep movsl; hlt")                                                            \
    X(far, "mov %cs, %eax; mov %ds, %ecx; mov %es, (%ebx); mov %ss, 4(%ebx); str %edx; hlt")   \
    X(decimal, "mov $0x79, %al; add $0x35, %al; daa; das; aaa; aas; aam; aad $7; xlat;"        \
               ".byte 0xd6; hlt")                                                              \
    X(bound, "movl $0, (%ebx); movl $9, 4(%ebx); mov $5, %eax; bound %eax, (%ebx);"            \
             "mov $10, %eax; bound %eax, (%ebx); hlt")                                         \
    X(sse, "movups (%ebx), %xmm0; pxor %xmm0, %xmm1; movd %xmm0, %edx; cvtsi2sd %ecx, %xmm5;"  \
           "movups %xmm1, 32(%ebx); vpaddd 32(%ebx), %ymm1, %ymm4; andn (%ebx), %ecx, %eax;"   \
           "vmovups %ymm4, 64(%ebx); fninit; fld1; fstpl 8(%esi); hlt")                        \
    X(vex_bits, /* VEX.W and the high bit of vvvv mean nothing here */                         \
      ".byte 0xc4, 0xe2, 0xf0, 0xf2, 0xc2; .byte 0xc4, 0xe2, 0x30, 0xf2, 0xda; hlt")           \
    X(limit, "mov $0x3ffc, %edi; mov 0(%edi), %eax; mov 1(%edi), %al; mov 3(%edi), %al; mov "  \
             "1(%edi), %eax; hlt")                                                             \
    X(low, "mov $0x100, %edi; mov (%edi), %eax; mov -1(%edi), %eax; hlt")                      \
    X(stack_limit, "mov $0x7fc4, %esp; push %eax; push %eax; hlt")                             \
    X(stack_wrap, "mov $2, %esp; push %eax; hlt")                                              \
    X(stack_top, "mov $0xfffe, %esp; popw %ax; pop %eax; hlt")                                 \
    X(code_limit, "jmp .+0x2000; hlt")                                                         \
    X(code_limit_call, "stc; call .+0x2000; hlt")                                              \
    X(code_limit_indirect, "mov $0x40003000, %eax; call *%eax; hlt")                           \
    X(code_limit_ret, "push $0x40003000; ret $4; hlt")                                         \
    X(short_branch, ".byte 0x66, 0xe9, 0, 0; nop; hlt")                                        \
    X(adaptive, /* stores and loads on two pages */                                            \
      "mov $60, %ecx; 1: mov %eax, 0xefd(%ebx); mov 0xefd(%ebx), %edx; add %edx, %eax;"        \
      "mov %cx, 0xeff(%ebx); movl $7, 0x1efd(%ebx); addl %eax, 0xefe(%ebx);"                   \
      "dec %ecx; jnz 1b; hlt")                                                                 \
    X(self_modify, "call 1f; 1: pop %eax; movb $0x42, 3f-1b(%eax); mov $2, %ecx;"              \
                   "2: inc %ecx; 3: nop; cmp $5, %ecx; jb 2b; movb $0x4a, 3b-1b(%eax);"        \
                   "cmp $9, %ecx; jb 2b; hlt")

#define PIECES_16(X)                                                                           \
    X(registers16,                                                                             \
      "mov $5, %ax; inc %cx; decl %edx; lea 3(%bx,%si), %di; lea -3(%bp), %edi;"               \
      "imul $7, %di, %bp; xchg %ax, %bp; cbtw; cwtd; cwtl; bswap %ecx; shl $3, %dx;"           \
      "setc %ah; movzbw %ah, %bp; movswl %bp, %edi; cmovc %cx, %dx;"                           \
      "popcnt %dx, %dx; crc32w %dx, %ecx; mov $0x12345678, %esi; hlt")                         \
    X(loads16, "mov 8(%bx), %ax; mov (%si), %ecx; movzwl 6(%si), %edx; mov -2(%bx,%si), %di;"  \
               "mov %fs:8, %bp; movl 2(%ebx,%edi,1), %eax; hlt")                               \
    X(loads16_far,                                                                             \
      "mov 0x100, %ax; mov 0x102, %ecx; mov %gs:0x10, %al; mov 4(%ebx), %edx; hlt")            \
    X(stores16, "mov %ax, (%bx); mov %ah, 24(%bx); movl $7, 16(%si); mov %eax, 0x120;"         \
                "mov %dl, 0x1ff(%bx,%si); sfence; mfence; xadd %ax, (%si); incw (%bx);"        \
                "incl 4(%bx); btsl $3, 56(%bx); btw %cx, (%bx); cmpxchg8b 8(%bx); hlt")        \
    X(stack16, "push %ax; push $-3; push %eax; pushl $5; push (%bx); push %sp; pop %cx; popl " \
               "%edx; popw %di; popl %ebp; push %bp; mov %sp, %bp; sub $32, %sp; mov %ax, "    \
               "-8(%bp); leave; pop %dx; push %ds; pushl %fs; popl %eax; pop %ax; pop 8(%bx);" \
               "pusha; popa; pushf; popf; pushal; popal; pushl %esp; popl %esp; hlt")          \
    X(calls16, "mov $3, %di; 1: call 2f; dec %di; jnz 1b; call 6f; 6: pop %ax; add $(3f-6b), " \
               "%ax; call *%ax; push %ax; mov %sp, %bp; call *(%bp); pop %ax; mov %ax, (%bx);" \
               "call *(%bx); jmp 4f; 2: add $7, %dx; ret; 3: sub $9, %dx; ret $0;"             \
               "4: push %ax; call 5f; calll 7f; hlt; 5: ret $2; 7: retl")                      \
    X(loops16,                                                                                 \
      "xor %ax, %ax; mov $1000, %cx; 1: add %cx, %ax; loop 1b; mov $77, %cx;"                  \
      "2: lea 1(%eax), %ax; cmp $50, %cx; loopne 2b; xor %cx, %cx; jcxz 3f; ud2;"              \
      "3: mov $9, %ecx; 4: .byte 0x67; loop 4b; mov $5, %cx; 5: cmp %ax, %ax; loope 5b;"       \
      "jecxz 6f; nop; 6: hlt")                                                                 \
    X(strings16,                                                                               \
      "mov %bx, %di; movsb; movsw; movsl; stosb; stosw; stosl; lodsb; lodsw; lodsl;"           \
      "scasb; setc %dl; scasl; setz %dh; cmpsb; cmpsw; cmpsl; pushf; pop %bp;"                 \
      "mov $5, %cx; rep movsb; mov $9, %cx; rep stosl; mov $3, %cx; rep movsw;"                \
      "mov $7, %cx; repne scasb; mov $9, %cx; repe cmpsw; fs lodsb; .byte 0x67; lodsb;"        \
      ".byte 0x67; rep stosb; hlt")                                                            \
    X(string_wrap,                                                                             \
      "mov $0xfff0, %di; mov $0x20, %cx; rep stosb; mov $0xfff1, %si; mov $0x40, "             \
      "%di; mov $0x20, %cx; rep movsw; hlt")                                                   \
    X(segments, "mov %ds, %ax; mov %ax, %es; mov %es, (%bx); push %ds; mov %cs, %cx; hlt")     \
    X(flat_no_more, /* the same indirect target, before and after a load of DS */              \
      "call 1f; 1: pop %bp; add $(3f-1b), %bp; mov $3, %cx; movb $7, (%bx); 2: call *%bp;"     \
      "loop 2b; mov %ds, %di; mov $0x3000, %ax; mov %ax, %ds; movb $9, (%bx); mov $3, %cx;"    \
      "4: call *%bp; loop 4b; mov %di, %ds; call *%bp; hlt; 3: add (%bx), %dl; ret")           \
    X(edge, "mov $0xffff, %di; mov (%di), %al; mov (%di), %ax; hlt")                           \
    X(edge_stack, "mov $0, %sp; push %ax; pop %cx; mov $1, %sp; push %ax; hlt")                \
    X(edge_add, "mov $0xfff8, %di; mov 0x10(%bx,%di), %al; mov $0x10000, %ebx; mov (%ebx), "   \
                "%al; hlt")                                                                    \
    X(sse16, "movups (%bx), %xmm0; pxor %xmm0, %xmm1; movd %xmm0, %edx; cvtsi2sd %ecx, %xmm5;" \
             "movups %xmm1, 32(%bx); fninit; fld1; fstpl 8(%si); hlt")                         \
    X(vex16, "vpaddd 32(%bx), %ymm1, %ymm4; andn (%bx), %ecx, %eax; hlt")                      \
    X(code_end, "jmp .+0x7e00; hlt")                                                           \
    X(code_end_long, ".byte 0xe9; .word 0xa0fd; hlt")                                          \
    X(adaptive16, "mov $60, %cx; 1: mov %ax, 0xeff(%bx); mov 0xeff(%bx), %dx; add %dx, %ax;"   \
                  "mov %ecx, 0xefe(%bx); movw $7, 0x1eff(%bx); addl %eax, 0xefe(%bx);"         \
                  "dec %cx; jnz 1b; hlt")                                                      \
    X(self_modify16, "call 1f; 1: pop %bp; movb $0x42, %cs:3f-1b(%bp); mov $2, %cx;"           \
                     "2: inc %cx; 3: nop; cmp $5, %cx; jb 2b; movb $0x4a, %cs:3b-1b(%bp);"     \
                     "cmp $9, %cx; jb 2b; hlt")

#define DEFINE(bits, name, text)                                                               \
    extern const u8 start_##name[], end_##name[];                                              \
    __asm__(".pushsection .rodata\n.code" #bits "\nstart_" #name ":\n" text "\nend_" #name     \
            ":\n.code64\n.popsection\n");
#define DEFINE_32(name, text) DEFINE(32, name, text)
#define DEFINE_16(name, text) DEFINE(16, name, text)
PIECES_32(DEFINE_32)
PIECES_16(DEFINE_16)

static const struct piece pieces[] = {
#define ROW_32(name, text) {#name, start_##name, end_##name, false},
#define ROW_16(name, text) {#name, start_##name, end_##name, true},
    PIECES_32(ROW_32) PIECES_16(ROW_16)};

static void set_up_real(struct guest *g)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    c->cr0 &= ~(u64)(CR0_PE | CR0_PG);
    c->efer = 0;
    c->idtr = (struct x86_table){IVT, 0x3ff};
    for (u32 v = 0; v < 32; v++) {
        u32 at = (u32)HANDLERS + v * 16;
        guest_write(g, IVT + v * 4, &at, 4);
    }
}

/* The state for a piece at linear address `la`. */
static void set_up(struct guest *g, const struct setting *s, u64 la)
{
    struct x86_cpu *c = &g->vcpu->cpu;
    const struct x86_seg segs[] = {[SEG_ES] = s->es, [SEG_CS] = s->cs, [SEG_SS] = s->ss,
                                   [SEG_DS] = s->ds, [SEG_FS] = s->fs, [SEG_GS] = s->gs};
    for (unsigned n = 0; n < ARRAY_LEN(segs); n++)
        c->seg[n] = segs[n];
    if (s->real)
        set_up_real(g);
    u64 flat = s->ds.base ? 0 : DATA;
    c->gpr[RBX] = flat + 0x100;
    c->gpr[RSI] = flat + 0x1100;
    c->gpr[RDI] = 0xffff000000000000ull | (flat + 0x2000);
    c->gpr[RCX] = 0x1234;
    c->gpr[RSP] = s->ss.base ? TOP : STACK_BASE + TOP;
    c->rip = la - s->cs.base;
    x86_derive(c);
}

static struct guest *run(const struct engine *engine, const struct piece *p,
                         const struct setting *s, u64 la, u64 seed, enum engine_exit *exit)
{
    struct guest *g = guest_create(engine, seed);
    guest_write(g, la, p->start, (u64)(p->end - p->start));
    set_up(g, s, la);
    *exit = guest_run(g);
    return g;
}

static void compare(const struct piece *p, const struct setting *s, u64 la, u64 seed)
{
    enum engine_exit by_sim, by_bt;
    struct guest *sim = run(&sim_engine, p, s, la, seed, &by_sim);
    struct guest *bt = run(&bt_engine, p, s, la, seed, &by_bt);
    assert_int_equal(by_sim, by_bt); /* EXIT_HALTED, or a shutdown where no stack is left */
    const char *difference = guest_compare(sim, bt, 0);
    if (difference)
        fail_msg("%s, %s segments, at %#llx, seed %llu: %s", p->name, s->name,
                 (unsigned long long)la, (unsigned long long)seed, difference);
    if (!strncmp(p->name, "adaptive", 8))
        assert_in_range(guest_counter(bt, "sites_adapted"), 2, 24);
    guest_destroy(bt);
    guest_destroy(sim);
}

static void test_same_as_simulator(void **state)
{
    const struct piece *p = *state;
    const struct setting *settings = p->code16 ? settings_16 : settings_32;
    unsigned n = p->code16 ? ARRAY_LEN(settings_16) : ARRAY_LEN(settings_32);
    for (unsigned i = 0; i < n; i++) {
        u64 base = settings[i].real ? REAL_CODE : CODE;
        compare(p, &settings[i], base, 1);
        /* Across the end of a page too. */
        for (u64 back = 2; back < 30; back = back * 2 + 1)
            compare(p, &settings[i], base + PAGE_SIZE - back, back);
    }
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(pieces)];
    for (unsigned i = 0; i < ARRAY_LEN(pieces); i++)
        tests[i] = (struct CMUnitTest){.name = pieces[i].name,
                                       .test_func = test_same_as_simulator,
                                       .initial_state = (void *)&pieces[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
