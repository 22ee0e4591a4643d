/*
 * Short pieces of guest code, each run on the simulator and on the translator from the same
 * state: registers, flags, vector state and all of memory must come out equal. Each piece ends
 * with HLT, or in the handler of an exception, which halts too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fixture.h"

struct snippet {
    const char *name;
    const u8 *start, *end;
};

/* SYSCALL at level 3 leads to label 9 with `mask` cleared; SYSRET comes back. */
#define SET_SYSCALL(mask)                                                                      \
    "mov $0xc0000081, %ecx; xor %eax, %eax; mov $0x00180008, %edx; wrmsr; inc %ecx;"           \
    "lea 9f(%rip), %rax; mov %rax, %rdx; shr $32, %rdx; wrmsr; mov $0xc0000084, %ecx;"         \
    "mov $" #mask ", %eax; xor %edx, %edx; wrmsr;"
#define USER_DATA "mov $0x23, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %fs; mov %eax, %gs;"
/* IRETQ to label 1 at level 3, with these flags. */
#define TO_USER(flags)                                                                         \
    "mov %rsp, %rbp; push $0x23; push %rbp; push $" #flags                                     \
    "; push $0x2b; lea 1f(%rip), %rax; push %rax; iretq; 1: "
/* Three system calls, in each of which the kernel ORs `flags` into R11; the last two run from
 * what the first one left in the tables. */
#define CALLS(flags, mask, kernel)                                                             \
    SET_SYSCALL(mask)                                                                          \
    USER_DATA TO_USER(0x202) "stc; mov $3, %ebx; 2: syscall; pushfq; dec %ebx; jnz 2b; hlt;"   \
                             "9: pushfq; pop %r12; add %r11, %r13; mov %cs, %r14d;"            \
                             "mov %ss, %r15d; add %rcx, %rdi; or $" #flags ", %r11; " kernel   \
                             "; sysretq"
/* IRETQ within level 0, twice, with these flags. */
#define STAY(flags, ss)                                                                        \
    "mov $2, %ebx; 2: mov %rsp, %rbp; push $" #ss "; push %rbp; push $" #flags                 \
    "; push $8; lea 1f(%rip), %rax; push %rax; iretq; nop; 1: pushfq; mov %ss, %edx;"          \
    "dec %ebx; jnz 2b; hlt"

/* A good image at 204000h, and what makes XRSTORS and XRSTOR, or XSAVES, refuse it. All
 * components are in use: whether those in their initial state are is the host's to say. */
#define CLEAR_HEADER(at) "mov $" #at "+512, %edi; xor %eax, %eax; mov $8, %ecx; rep stosq;"
#define XSAVE_FAULT(X, name, insn, damage)                                                     \
    X(name,                                                                                    \
      CLEAR_HEADER(                                                                            \
          0x204000) "vmovups (%rbx), %ymm1; fninit; fld1; mov $7, %eax; xor %edx, %edx; "      \
                    "mov $0x204000, "                                                          \
                    "%edi; xsaves64 (%rdi); vxorps %ymm1, %ymm1, %ymm1; stc; " damage          \
                    "; " insn " (%rdi); hlt")
#define XSAVE_FAULTS(X)                                                                        \
    XSAVE_FAULT(X, xsave_misaligned, "xsave64", "lea 8(%rdi), %rdi")                           \
    XSAVE_FAULT(X, xrstor_misaligned, "xrstor64", "lea 8(%rdi), %rdi")                         \
    XSAVE_FAULT(X, xsave_page, "xsave64", "lea 0xe00(%rdi), %rdi")                             \
    XSAVE_FAULT(X, xsave_hole, "xsaves64", "mov $0x3ffe00, %edi")                              \
    XSAVE_FAULT(X, xrstor_hole, "xrstors64", "mov $0x400000, %edi")                            \
    XSAVE_FAULT(X, xrstor_component, "xrstor64", "movb $0x80, 513(%rdi)")                      \
    XSAVE_FAULT(X, xrstor_layout, "xrstors64", "movb $0x80, 521(%rdi)")                        \
    XSAVE_FAULT(X, xrstors_layout, "xrstors64", "movb $3, 520(%rdi)")                          \
    XSAVE_FAULT(X, xrstors_standard, "xrstors64", "movq $0, 520(%rdi)")                        \
    XSAVE_FAULT(X, xrstor_standard, "xrstor64", "movq $0, 520(%rdi)")                          \
    XSAVE_FAULT(X, xrstor_reserved, "xrstor64", "movb $1, 540(%rdi)")                          \
    XSAVE_FAULT(X, xrstor_mxcsr, "xrstor64", "movb $3, 512(%rdi); orl $0x10000, 24(%rdi)")     \
    XSAVE_FAULT(X, xrstor_limited, "xrstor64",                                                 \
                "mov $3, %eax; xor %ecx, %ecx; xsetbv; mov $7, %eax")

#define SNIPPETS(X)                                                                            \
    X(registers, "mov $5, %eax; add %rcx, %rax; lea 3(%rax,%rdx,4), %rdi; imul $7, %rdi, %r8;" \
                 "xchg %r8, %r10; add %r11, %r10; bswap %r11; shl $3, %r9; setc %r11b;"        \
                 "movzbl %r10b, %ebp; cmovc %r10, %r15; popcnt %r11, %r11; hlt")               \
    X(loads, "mov 8(%rbx), %rax; mov (%r10), %rcx; mov 16(%r11), %r10;"                        \
             "movzwl 6(%rsi), %r11d; movsbq (%rbx), %r9; mov %fs:8, %rdx; mov %gs:16, %ebp;"   \
             "movb 5(%rsi), %ah; mov (%rsi), %bl; hlt")                                        \
    X(stores,                                                                                  \
      "mov %rax, (%rbx); mov %r10, 8(%rbx); mov %r11d, (%r10); movw $7, 16(%rbx);"             \
      "movb %ah, 24(%rbx); movb %ch, 25(%rsi); mov %r11, %gs:32; movq $-5, (%rsi); hlt")       \
    X(modify, "add %rax, (%rbx); adc %rcx, 8(%rbx); sbb %r10, (%rsi); incl 4(%rbx);"           \
              "xadd %r11, (%rsi); xchg %r10, 16(%rbx); lock cmpxchg %r11, (%rsi);"             \
              "negq (%rsi); notb (%rbx); shll %cl, 32(%rbx); rcrq $3, 40(%rbx);"               \
              "lock addl $1, 48(%rbx); btsl $3, 56(%rbx); btq %rcx, 64(%rbx); hlt")            \
    X(flags_over_access, "cmp %rax, %rcx; mov (%rbx), %rdx; setb %r8b; mov (%rsi), %r9;"       \
                         "seto %dl; adc 8(%rbx), %rax; mov %rax, (%rbx); sbb %r12, %r12;"      \
                         "lahf; mov 8(%rsi), %rcx; pushfq; pop %r14; hlt")                     \
    X(fault_after_dead_add, "stc; add %rcx, %rax; mov 0x400000, %rdx; xor %ecx, %ecx; hlt")    \
    X(fault_after_dead_sub, "sub %r10d, %r11d; mov 0x400000, %rdx; test %ecx, %ecx; hlt")      \
    X(fault_after_dead_compare, "cmp %cl, %ah; mov (%rbx), %rdx; lea 1(%rdx), %r9; "           \
                                "mov %rdx, 8(%rbx); mov %rdx, 0x400000; xor %ecx, %ecx; hlt")  \
    X(fault_after_dead_logic, "xor %r8, %rbp; mov (%rbx), %rdx; mov %rdx, 0x400000; "          \
                              "and %ecx, %ecx; hlt")                                           \
    X(fault_after_dead_and, "and $0x7f, %al; mov (%rbx), %rdx; mov %rdx, 0x400000; "           \
                            "neg %ecx; hlt")                                                   \
    X(fault_after_dead_neg, "neg %edi; jmp 1f; 1: mov 0x400000, %rdx; neg %ecx; hlt")          \
    X(counts, "xor %ecx, %ecx; cmp $3, %eax; shl %cl, %rdx; setb %r8b; mov $5, %ecx;"          \
              "mov (%rbx), %rax; shr %cl, %rax; setc %r9b; rol $3, %rax; setz %r12b; hlt")     \
    X(stack, "push %rax; push $-3; push (%rbx); push %r10; push %rsp; push %r11; pop %rcx;"    \
             "pop %r10; pop %r11; pop 8(%rbx); push %rbp; mov %rsp, %rbp; sub $32, %rsp;"      \
             "mov %rax, -8(%rbp); leave; pop %rdx; pop %rdi; hlt")                             \
    X(calls, "mov $3, %r12d; 1: call 2f; dec %r12; jnz 1b; lea 3f(%rip), %rax; call *%rax;"    \
             "lea 3f(%rip), %r10; call *%r10; push %rax; call *(%rsp); pop %rax;"              \
             "jmp 4f; 2: add $7, %r13; ret; 3: sub $9, %r14; ret $0; 4: hlt")                  \
    X(flags_through_calls,                                                                     \
      "mov $9, %r12d; 1: cmp $5, %r12d; call 2f; setb %al; adc %rax, %r13; cmp %r12d, %ecx;"   \
      "mov (%rbx), %rdx; call 2f; seto %dl; setb %dh; add %rdx, %r14; stc; jmp 3f; nop;"       \
      "3: mov 8(%rbx), %rax; mov %rax, 16(%rbx); lea 4f(%rip), %rdx; jmp *%rdx; nop; 4: sbb "  \
      "%r15, %r15; dec %r12d; jnz 1b; hlt; 2: mov (%rsi), %r8; mov %r8, 24(%rbx); ret")        \
    X(loops, "xor %eax, %eax; mov $1000, %ecx; 1: add %rcx, %rax; loop 1b; mov $77, %ecx;"     \
             "2: lea 1(%rax), %rax; cmp $50, %ecx; loopne 2b; xor %ecx, %ecx; jrcxz 3f;"       \
             "ud2; 3: mov $100, %ecx; 4: imul $3, %rax; sub $1, %ecx; jnz 4b; hlt")            \
    X(short_count, "mov $3, %eax; shl $32, %rax; lea (%rax), %rcx; jecxz 1f; ud2; 1: mov "     \
                   "$2, %ecx; add %rax, %rcx; 2: inc %rdx; addr32 loop 2b; hlt")               \
    X(table_jump, "lea 5f(%rip), %rbx; xor %r12d, %r12d; 1: mov %r12d, %eax; and $1, %eax;"    \
                  "movslq (%rbx,%rax,4), %rax; add %rbx, %rax; jmp *%rax;"                     \
                  "2: add $3, %r13; jmp 4f; 3: xor $5, %r13; 4: inc %r12; cmp $9, %r12;"       \
                  "jne 1b; hlt; 5: .long 2b-5b, 3b-5b")                                        \
    X(strings, "lea 0x100(%rbx), %rdi; mov $37, %ecx; rep movsb; mov $9, %ecx; rep stosq;"     \
               "mov %rbx, %rsi; lodsq; mov $20, %ecx; repne scasb; cmpsl; movsq; hlt")         \
    X(page_cross,                                                                              \
      "mov 0xefc(%rbx), %rax; add $0x0efd, %rbx; mov %rax, (%rbx); add %rax, (%rbx);"          \
      "mov %rsp, %rcx; lea 0x1003(%rsp), %rsp; andq $-4096, %rsp; lea 4(%rsp), %rsp;"          \
      "push %rax; pop %rdx; mov %rcx, %rsp; hlt")                                              \
    X(sse,                                                                                     \
      "movups (%rbx), %xmm0; movups 16(%rbx), %xmm9; pxor %xmm0, %xmm9; movaps %xmm9, %xmm3;"  \
      "movups %xmm3, 32(%rbx); movd %xmm3, %r10d; movq %r11, %xmm4; paddd (%rsi), %xmm4;"      \
      "cvtsi2sd %r11, %xmm5; addsd %xmm5, %xmm5; movsd %xmm5, (%rbx); ucomisd 8(%rbx), %xmm5;" \
      "cvttsd2si %xmm5, %r10; hlt")                                                            \
    X(avx,                                                                                     \
      "vmovups (%rbx), %ymm1; vpaddd 32(%rbx), %ymm1, %ymm12; vmovups %ymm12, (%r10);"         \
      "vextracti128 $1, %ymm12, 64(%rbx); andn (%rbx), %r11, %rax; shlx %rcx, (%rsi), %r10;"   \
      "rorx $5, (%r11), %r11; vbroadcastss (%rsi), %ymm15; vzeroupper; hlt")                   \
    X(x87, "fninit; fld1; fldpi; fadd %st(1), %st; fstpl (%rbx); fldl 8(%rbx); fstp %st(0);"   \
           "fildl (%rsi); fistpll 16(%rbx); fnstcw 24(%rbx); fstpt 32(%rbx); hlt")             \
    X(fault_read, "mov $0x400008, %edx; mov $1, %ecx; add $5, %ecx; mov (%rdx), %rax; hlt")    \
    X(fault_write, "mov $0x400008, %edx; push %rdx; mov %rdx, (%rdx); hlt")                    \
    X(fault_cross, "mov $0x3ffffc, %edx; mov %rdx, (%rdx); hlt")                               \
    X(fault_push_memory, "mov $0x401004, %esp; push %rax; nop; hlt")                           \
    X(fault_call, "mov $0x401000, %esp; call 1f; 1: hlt")                                      \
    X(fault_target, "mov $0x400010, %eax; jmp *%rax; hlt")                                     \
    X(fault_branch, "mov $1, %rax; shl $63, %rax; push %rax; ret; hlt")                        \
    X(fault_canonical, "mov $1, %rax; shl $63, %rax; mov (%rax), %rcx; hlt")                   \
    X(divide, "mov $100, %eax; cltd; mov $7, %ecx; div %ecx; mov %edx, %esi; xor %ecx, %ecx;"  \
              "cmp %eax, %eax; idiv %ecx; hlt")                                                \
    X(misaligned, "stc; movaps 1(%rbx), %xmm1; hlt")                                           \
    X(undefined, "stc; ud2; hlt")                                                              \
    X(single, "sti; cli; mov %cs, %eax; mov %ss, %ebx; rdtsc; xor %eax, %eax; xor %edx, %edx;" \
              "smsw %ecx; str %edx; hlt")                                                      \
    X(self_modify, "lea 1f+2(%rip), %rax; movl $77, (%rax); nop; jmp 1f; .p2align 4;"          \
                   "1: mov $11, %r12; inc %r13; cmp $2, %r14; je 2f; mov $2, %r14d;"           \
                   "movl $99, 3+1b(%rip); jmp 1b; 2: hlt")                                     \
    X(absolute, "mov 0x200010, %eax; mov %eax, 0x200020; movabs 0x200030, %rax; addr32 mov "   \
                "(%ebx), %ecx;"                                                                \
                "lea 1f(%rip), %r10; 1: hlt")                                                  \
    X(sib_without_base, /* 32-bit addresses with REX.B: no R13D in them */                     \
      ".byte 0x67, 0x41, 0x8b, 0x04, 0x25; .long 0x200010; mov $8, %ecx;"                      \
      ".byte 0x67, 0x41, 0x89, 0x04, 0x0d; .long 0x200020; .byte 0x67, 0x41, 0x8d, 0x14, "     \
      "0x25; .long 0x200030; hlt")                                                             \
    X(bits, "mov $-37, %rax; bts %rax, 0x100(%rbx); mov $1000, %r11d; btc %r11d, (%rbx);"      \
            "mov $-500, %rcx; bt %ecx, 0x200(%rsi); setc %dl; lock btr %rcx, 0x300(%rsi);"     \
            "mov $77, %r10d; cmp %r10, %r10; bts %r10, (%rsi); setz %dh; pushfq; hlt")         \
    X(flag_word, "stc; pushfq; cli; popfq; setc %al; sti; nop; pushfq; pop %rcx; cli;"         \
                 "push $0x8d7; popfq; pushfq; pop %rdx; push $0x2; popfq; seto %bl; sti;"      \
                 "push $0x202; popfq; pushfq; push $0x40202; popfq; pushfq; hlt")              \
    X(swap, "mov %gs:8, %rax; swapgs; swapgs; mov %gs:16, %rcx; rdtsc; shr $32, %rdx; xor "    \
            "%eax, %eax;"                                                                      \
            "xor %edx, %edx; hlt")                                                             \
    X(long_strings,                                                                            \
      "mov $0x200ff1, %edi; mov $0x200fe0, %esi; mov $5000, %ecx; rep movsb;"                  \
      "mov $0x203ffc, %edi; mov $700, %ecx; rep stosq; xor %ecx, %ecx; rep stosb;"             \
      "mov $0x204ffd, %edi; mov $0x202001, %esi; mov $9, %ecx; rep movsl; movsq; stosb; hlt")  \
    X(fault_string, "mov $0x3ff000, %edi; mov $4000, %ecx; rep stosl; hlt")                    \
    X(far_return, "mov %cs, %eax; push %rax; lea 1f(%rip), %rax; push %rax; lretq; 1: hlt")    \
    X(loop_narrow, "mov $0x500000003, %rcx; 1: inc %rax; addr32 loop 1b; mov $1, %ecx;"        \
                   "shl $32, %rcx; addr32 jrcxz 2f; ud2; 2: hlt")                              \
    X(scan_zero, "xor %eax, %eax; mov %rax, (%rbx); bsf (%rbx), %r10; bsr (%rbx), %r11d;"      \
                 "bsf (%rbx), %rcx; bsr %rax, %r10; hlt")                                      \
    X(stack_pointer, ".byte 0xff, 0xf4; .byte 0x8f, 0xc4; push %rsp; pop %rsp; pushq (%rsp);"  \
                     "hlt")                                                                    \
    X(pop_memory,                                                                              \
      "push %rax; push %rcx; push %rdx; push %rsi; push $7; pushw %di; popw 4(%rbx);"          \
      "pop 8(%rbx); pop 16(%rsp); pop 24(%rsp); push %rbx; lea (%rbx), %r10; mov $2, %r11d; "  \
      "pop 32(%r10,%r11,8);"                                                                   \
      "pop (%rsp); stc; mov $0x200ffc, %r11d; pop (%r11); pushfq; hlt")                        \
    X(pop_fault, "push %rax; stc; pop 0x400000; hlt")                                          \
    X(call_nowhere, "mov $1, %rax; shl $63, %rax; mov %rax, -9(%rsp); call *-9(%rsp); hlt")    \
    X(undefined_flags, "stc; sbb %eax, %eax; cmp $3, %ecx; imul (%rbx), %rdx; pushfq; "        \
                       "add %eax, %eax; mul %ecx; mov (%rsi), %rdi; pushfq; hlt")              \
    X(prefetch_register, ".byte 0x0f, 0x0d, 0xc9; hlt")                                        \
    X(calls_plain, CALLS(0, 0x47700, "nop"))                                                   \
    X(calls_flags_kept, CALLS(0, 0, "nop"))                                                    \
    X(calls_all_masked, CALLS(0, 0x257fd5, "nop"))                                             \
    X(calls_ac, CALLS(0x40000, 0x700, "nop"))                                                  \
    X(calls_df, CALLS(0x400, 0x700, "nop"))                                                    \
    X(calls_tf, CALLS(0x100, 0x700, "nop"))                                                    \
    X(calls_nt, CALLS(0x4000, 0x700, "nop"))                                                   \
    X(calls_iopl, CALLS(0x3000, 0x700, "nop"))                                                 \
    X(calls_id_rf_vm, CALLS(0x230000, 0x700, "nop"))                                           \
    X(calls_no_if, CALLS(0, 0x700, "btr $9, %r11"))                                            \
    X(calls_high, CALLS(0, 0x700, "mov $-4096, %rcx"))                                         \
    X(calls_hole, CALLS(0, 0x700, "bts $47, %rcx"))                                            \
    X(calls_unmapped, CALLS(0, 0x700, "mov $0x400010, %ecx"))                                  \
    X(calls_iretq, CALLS(0, 0x700,                                                             \
                         "push $0x23; lea 8(%rsp), %rax; push %rax; push %r11;"                \
                         "push $0x2b; push %rcx; iretq"))                                      \
    X(calls_off, CALLS(0, 0x700, "mov $0xc0000080, %ecx; rdmsr; btr $0, %eax; wrmsr"))         \
    X(calls_off_user,                                                                          \
      SET_SYSCALL(0x700) "mov $0xc0000080, %ecx; rdmsr; btr $0, %eax; wrmsr;" TO_USER(         \
          0x202) "syscall; hlt; 9: hlt")                                                       \
    X(user_drops_segments,                                                                     \
      TO_USER(0x246) "mov %ds, %eax; mov %es, %ecx; mov %fs, %edx; mov %gs, %ebx; hlt")        \
    X(user_ac, USER_DATA TO_USER(0x40246) "pushfq; pop %rax; hlt")                             \
    X(user_privileged, USER_DATA TO_USER(0x202) "nop; mov %cr3, %rax; hlt")                    \
    X(user_swapgs, USER_DATA TO_USER(0x202) "nop; swapgs; hlt")                                \
    X(user_stac, USER_DATA TO_USER(0x202) "nop; stac; hlt")                                    \
    X(user_iretq, USER_DATA TO_USER(0x202) "mov %rsp, %rbp; push $0x23; push %rbp; pushfq;"    \
                                           "push $0x2b; lea 3f(%rip), %rax; push %rax; iretq;" \
                                           "3: mov $5, %edx; hlt")                             \
    X(stay_plain, STAY(0x8d7, 0x10))                                                           \
    X(stay_ac, STAY(0x40002, 0x10))                                                            \
    X(stay_df, STAY(0x402, 0x10))                                                              \
    X(stay_tf, STAY(0x102, 0x10))                                                              \
    X(stay_nt, STAY(0x4002, 0x10))                                                             \
    X(stay_rf, STAY(0x10002, 0x10))                                                            \
    X(stay_wide, STAY(0x203002, 0x10))                                                         \
    X(stay_null_ss, STAY(0x2, 0))                                                              \
    X(stay_user_ss, STAY(0x2, 0x23))                                                           \
    X(stay_bad_ss, STAY(0x2, 0x28))                                                            \
    X(return_nt, "pushfq; btsq $14, (%rsp); popfq; " STAY(0x2, 0x10))                          \
    X(return_far, "mov %rsp, %rbp; push $16; push %rbp; push $2; push $8; mov $1, %eax;"       \
                  "shl $50, %rax; push %rax; iretq; hlt")                                      \
    X(return_bad_cs, "mov %rsp, %rbp; push $16; push %rbp; push $2; push $16;"                 \
                     "lea 1f(%rip), %rax; push %rax; iretq; 1: hlt")                           \
    X(return_null_cs, "mov %rsp, %rbp; push $16; push %rbp; push $2; push $0;"                 \
                      "lea 1f(%rip), %rax; push %rax; iretq; 1: hlt")                          \
    X(return_beyond_gdt, "mov %rsp, %rbp; push $16; push %rbp; push $2; push $0x38;"           \
                         "lea 1f(%rip), %rax; push %rax; iretq; 1: hlt")                       \
    X(return_no_frame, "mov $0x400ff0, %esp; iretq; hlt")                                      \
    X(return_edge, "mov $0x400ff8, %esp; iretq; hlt")                                          \
    X(access_flag, "cmp %rax, %rcx; stac; setb %dl; pushfq; mov (%rbx), %rax; clac; pushfq;"   \
                   "mov $2, %ecx; 1: stac; add %rcx, 8(%rbx); clac; loop 1b; pushfq; hlt")     \
    X(bases, "cmp %rcx, %rdx; rdfsbase %rax; rdgsbase %r10d; lea 0x2080(%rax), %r11;"          \
             "wrfsbase %r11; mov %fs:8, %rcx; wrgsbase %ebx; mov %gs:16, %r11; rdgsbase %r11;" \
             "pushfq; bts $47, %rbx; wrgsbase %rbx; hlt")                                      \
    X(bases_off, "mov %cr4, %rax; btr $16, %rax; mov %rax, %cr4; cmp %rcx, %rdx; rdfsbase "    \
                 "%rax; hlt")                                                                  \
    X(system_moves, "mov %cr0, %r10; mov %cr3, %rax; mov %cr4, %r11; mov %cr2, %r9;"           \
                    "mov %ds, %r10d; mov %cs, %r8; mov %ss, %ecx; mov %gs, %r11; mov %es, "    \
                    "%dx; cmp %rcx, %rdx; mov %fs, %esi; pushfq; hlt")                         \
    X(verify, "cmp %rcx, %rdx; movw $0x10, (%rbx); verw (%rbx); pushfq; movw $8, (%rbx);"      \
              "verw (%rbx); pushfq; mov $0x23, %r10d; verw %r10w; pushfq; mov $0x13, %eax;"    \
              "verw %ax; pushfq; xor %eax, %eax; verw %ax; pushfq; mov $0x100, %ecx;"          \
              "verw %cx; pushfq; mov $0x14, %ecx; verw %cx; pushfq; hlt")                      \
    X(verify_fault, "mov $0x400010, %ecx; cmp %rcx, %rdx; verw (%rcx); hlt")                   \
    X(shadow, "mov $3, %ecx; 1: cli; sti; loop 1b; call 2f; cli; sti; jmp 3f; 2: sti; ret;"    \
              "3: sti; pushfq; cli; sti; hlt")                                                 \
    X(time_stamp,                                                                              \
      "cmp %rcx, %rdx; mov $0xc0000103, %ecx; mov $77, %eax; xor %edx, %edx;"                  \
      "wrmsr; rdtscp; mov %ecx, %ebx; pushfq; xor %eax, %eax; xor %edx, %edx; hlt")            \
    X(exchange, "mov %rax, %r12; mov %rdx, %r13; mov (%rbx), %rax; mov 8(%rbx), %rdx;"         \
                "and $-16, %rbx; lock cmpxchg16b (%rbx); cmpxchg8b (%rsi); hlt")               \
    X(shared_checks,                                                                           \
      "xor %ecx, %ecx; mov (%rbx), %rax; add 8(%rbx), %rax; mov %rax, 16(%rbx); "              \
      "add $24, %rbx; mov -8(%rbx), %rdx; mov %r10, -16(%rbx); mov (%r10), "                   \
      "%r11; mov 8(%r10), %r10; mov (%rsi,%rcx,8), %r8; inc %rcx; lea 8(%rsi), "               \
      "%rdi; add %r8, -8(%rdi,%rcx,8); movb %ah, (%rdi); movb %ch, 1(%rdi); sub "              \
      "$8, %rdi; push (%rdi); push %rdi; push 8(%rdi); mov 8(%rsp), %rbp; pop "                \
      "%r11; pop %r10; pop %r9; setc 5(%rdi); mov %gs:8, %r12; mov %gs:16, "                   \
      "%r13; mov %gs:8(%rcx), %r14; mov 0x200100, %r15; add %r15, 0x200108; hlt")              \
    /* RIP-relative beside FS and GS: another address each time. */                            \
    X(shared_rip, "mov %gs:-0x100000(%rip), %rax; movw $7, %gs:-0xfffe0(%rip); mov "           \
                  "%gs:-0x100000(%rip), %rcx; add %fs:-0x100000(%rip), %rcx; add %rcx, "       \
                  "%fs:-0xfffe0(%rip); testw $0xff01, %gs:-0xfffe7(%rip); mov "                \
                  "%gs:-0x100000(%rip), %rdx; setz %bl; hlt")                                  \
    X(shared_over_page,                                                                        \
      "mov %rsp, %rcx; andq $-4096, %rsp; add $20, %rsp; push %rax; push %rcx; "               \
      "push %rdx; push %rbx; push %r10; mov 8(%rsp), %r8; mov 16(%rsp), %r9; "                 \
      "mov 32(%rsp), %r11; pop %rbx; pop %r12; pop %r13; pop %r10; pop %r14; "                 \
      "mov %rcx, %rsp; lea 0xff0(%rsi), %rdi; and $-16, %rdi; mov $9, %ebp; 1: "               \
      "mov -16(%rdi), %rax; add %rax, -8(%rdi); adc %rax, (%rdi); mov %rax, "                  \
      "4(%rdi); sub $3, %rdi; dec %ebp; jnz 1b; hlt")                                          \
    X(shared_fault, "mov $0x3ffff0, %edx; cmp %rax, %rcx; mov (%rdx), %rax; mov 8(%rdx), "     \
                    "%rcx; lea 1(%r12), %r12; mov 16(%rdx), %rbp; hlt")                        \
    X(shared_fault_later,                                                                      \
      "mov $0x3ffff8, %edx; cmp %edx, %edx; mov %rcx, (%rdx); jne 1f; add $8, "                \
      "%rdx; inc %r12; mov %rcx, (%rdx); 1: hlt")                                              \
    X(shared_not_reached,                                                                      \
      "mov $0x3ffff8, %edx; cmp %edx, %edx; mov (%rdx), %rcx; je 1f; mov "                     \
      "8(%rdx), %rcx; mov %rcx, 16(%rdx); ud2; 1: mov %rcx, -8(%rdx); hlt")                    \
    X(modify_ahead, "xor %r13d, %r13d; 0: cmp $5, %r13; je 2f; lea (%r13,%r13), %eax; mov "    \
                    "%eax, 3+1f(%rip); test %eax, %eax; js 2f; 1: add $0x11, %r12; inc %r13; " \
                    "jmp 0b; 2: hlt")                                                          \
    X(unrolled, "mov $300, %ecx; lea 0xe00(%rbx), %rdi; 1: mov (%rsi), %rax; add 8(%rsi), "    \
                "%rax; mov %rax, (%rdi); add $8, %rdi; add %eax, 4(%rsi); lea 4(%rsi), "       \
                "%rsi; cmp $0x7f, %al; je 2f; 3: dec %ecx; jnz 1b; jmp 4f; 2: xor %rcx, "      \
                "%r12; jmp 3b; 4: hlt")                                                        \
    X(unrolled_fault, "mov $0x3fff00, %edi; xor %eax, %eax; stc; 1: adc $3, %eax; mov %eax, "  \
                      "4(%rdi); mov (%rdi), %rdx; lea 8(%rdi), %rdi; jnc 1b; hlt")             \
    X(unrolled_modify,                                                                         \
      "xor %r13d, %r13d; 1: add $0x11, %r12; inc %r13; lea (%r13,%r13,2), %eax; "              \
      "mov %al, 3+1b(%rip); cmp $9, %r13; jne 1b; hlt")                                        \
    X(exchange_not_pause, /* F3 90 with REX.B, and addresses that count on R8 and RAX */       \
      "lea 64(%rbx), %r8; mov %rbx, %rax; mov 8(%r8), %rcx; mov 8(%rax), %rdx; .byte 0xf3, "   \
      "0x41, 0x90; mov 16(%r8), %rdi; mov 16(%rax), %rbp; mov %rcx, 24(%r8); .byte 0xf3, "     \
      "0x49, 0x90; mov %rdx, 32(%r8); hlt")                                                    \
    X(repeated_compares,                                                                       \
      "cld; mov $0x202000, %edi; mov $0x205000, %esi; mov $0x1800, %ecx; mov $0x41, %eax; "    \
      "rep stosb; mov $0x205003, %edi; mov $0x1800, %ecx; rep stosb; movb $0x42, 0x2034a5;"    \
      "mov $0x202001, %edi; mov $0x1700, %ecx; repe scasb; pushfq; push %rcx; mov $0x42, "     \
      "%al; mov $0x202001, %edi; mov $0x3000, %ecx; repne scasb; pushfq; push %rdi; "          \
      "mov $0x202001, %edi; mov $0x205003, %esi; mov $0xc00, %ecx; repe cmpsw; pushfq; "       \
      "push %rcx; push %rsi; mov $0x202000, %edi; mov $0x400, %ecx; mov $0x205003, %esi; "     \
      "repe cmpsl; pushfq; push %rdi; xor %ecx, %ecx; stc; repe cmpsb; pushfq; mov $5, %ecx; " \
      "repne cmpsq; pushfq; push %rcx; mov $0x40, %ecx; mov $0x203000, %edi; repe scasq; "     \
      "pushfq; seto %r8b; push %rdi; mov $0x202ff9, %edi; mov $100, %ecx; repe scasl; "        \
      "pushfq; addr32 repne scasw; push %rcx; hlt")                                            \
    X(fault_scan, "mov $0x3ff100, %edi; mov $-1, %rcx; mov $0x55, %eax; cmp %ecx, %eax; "      \
                  "repne scasl; hlt")                                                          \
    X(freed_addresses,                                                                         \
      "lea 8(%rbx), %r10; mov $3, %r11d; lea (%r10,%r11,8), %rax; mov "                        \
      "(%r10,%r11,8), %rcx; mov (%r10), %rdx; mov $2, %r10d; lea 16(%rsi), "                   \
      "%r11; mov (%r11,%r10,4), %r8; inc %r10; cmp %rcx, %rdx; mov "                           \
      "(%r11,%r10,4), %r9d; mov %r9d, %r11d; adc %r10, %r11; mov %r11, "                       \
      "24(%rbx); mov 24(%rbx), %r11; add %r11, %r10; mov 32(%rbx), %r10b; mov "                \
      "%r10w, %r11w; mov %r11d, 40(%rbx); movsd 8(%rbx), %xmm1; mov 16(%rbx), "                \
      "%r11; addsd 24(%rbx), %xmm1; add %r11, %r11; mov %r11, %r12; hlt")                      \
    X(xsave, CLEAR_HEADER(0x204000) CLEAR_HEADER(0x204400)                                     \
                 CLEAR_HEADER(0x204800) "movl $0x3f80, (%rbx); ldmxcsr (%rbx); vmovups "       \
                                        "(%rbx), %ymm1; vmovups (%rsi), "                      \
                                        "%ymm12; fninit; fldpi; mov $-1, %rax; mov $-1, "      \
                                        "%rdx; movabs $0x1122334455667788, "                   \
                                        "%rcx; mov $0x204000, %edi; xsave64 (%rdi); lea "      \
                                        "0x400(%rdi), %r10; xsavec64 "                         \
                                        "(%r10); lea 0x800(%rdi), %r11; xsaves64 (%r11); "     \
                                        "vzeroall; fld1; fld1; movl "                          \
                                        "$0x1f80, (%rbx); ldmxcsr (%rbx); xrstors64 (%r11); "  \
                                        "fstpl 8(%rbx); vmovups %ymm12, "                      \
                                        "32(%rbx); mov $5, %eax; xor %edx, %edx; xrstor64 "    \
                                        "(%r10); xor %eax, %eax; xrstor64 "                    \
                                        "(%rdi); mov $6, %eax; xrstor64 (%rdi); mov $3, "      \
                                        "%eax; xsave64 0xc00(%rdi); "                          \
                                        "stmxcsr (%rbx); hlt")                                 \
    X(fxsave, "movl $0x3f80, (%rbx); ldmxcsr (%rbx); movups (%rbx), %xmm1; movups (%rsi), "    \
              "%xmm12; fninit; fldpi; fxsave64 0x100(%rbx); pxor %xmm12, %xmm12; fld1; "       \
              "fxrstor64 0x100(%rbx); movups %xmm12, 32(%rbx); fstpl 8(%rbx); stc; fxrstor64 " \
              "8(%rbx); hlt")                                                                  \
    X(x87_pointer, /* with an error pending, for AMD's; opcode and operand are not known */    \
      "movl $0x37b, (%rbx); fninit; fldcw (%rbx); fld1; fldz; fdivr %st(1), %st;"              \
      "fxsave64 0x100(%rbx); movw $0, 0x106(%rbx); movq $0, 0x110(%rbx); fnstenv "             \
      "0x300(%rbx); movq $0, 0x310(%rbx); movl $0, 0x318(%rbx); fnclex; hlt")                  \
    X(fxrstor_mxcsr, "fxsave64 0x100(%rbx); orl $0x10000, 0x118(%rbx); stc; fxrstor64 "        \
                     "0x100(%rbx); hlt")                                                       \
    X(fxsave_fast,                                                                             \
      "mov $0xc0000080, %ecx; rdmsr; bts $14, %eax; wrmsr; movups (%rbx), %xmm1; "             \
      "fxsave64 0x100(%rbx); pxor %xmm1, %xmm1; fxrstor64 0x100(%rbx); hlt")                   \
    XSAVE_FAULTS(X)                                                                            \
    X(xsave_off,                                                                               \
      "mov %cr4, %rax; btr $18, %rax; mov %rax, %cr4; stc; mov $7, %eax; xor %edx, "           \
      "%edx; xsave64 0x2000(%rsi); hlt")                                                       \
    X(xsave_ts, "mov %cr0, %rax; bts $3, %rax; mov %rax, %cr0; stc; mov $7, %eax; xor %edx, "  \
                "%edx; mov $0x204000, %edi; xsaves64 (%rdi); hlt")                             \
    X(xsaves_user,                                                                             \
      CLEAR_HEADER(0x204000) USER_DATA TO_USER(                                                \
          0x202) "vmovups (%rbx), %ymm1; mov $0x204000, %edi; mov $7, %eax; xor %edx, %edx; "  \
                 "xsavec64 (%rdi); xrstor64 (%rdi); xsaves64 (%rdi); "                         \
                 "hlt")                                                                        \
    X(flags_narrow,                                                                            \
      "stc; pushfw; cli; popfw; setc %al; pushw $0x8d7; popfw; pushfq; pop %rdx; "             \
      "pushw $0x202; popfw; pushfq; cli; pushw $0x3002; popfw; pushfq; pushw "                 \
      "$0x4402; popfw; pushfq; hlt")                                                           \
    X(user_flags,                                                                              \
      USER_DATA TO_USER(0x202) "push $0x8d7; popfq; pushfq; push $0x3ad7; popfq; "             \
                               "pushfq; pushfw; popfw; pushw $2; popfw; pushfq; push "         \
                               "$0x40002; popfq; pushfq; hlt")                                 \
    X(flags_fault, "stc; mov $0x400ffc, %esp; popfq; hlt")                                     \
    X(segment_loads,                                                                           \
      "cmp %rcx, %rdx; mov $0x10, %r10d; mov %r10d, %fs; mov $0x23, %eax; mov "                \
      "%eax, %ds; mov $8, %r11d; mov %r11d, %es; mov %gs, 6(%rbx); mov 6(%rbx), %gs; mov "     \
      "%ss, (%rbx); mov (%rbx), %es; push %gs; pop %gs; push $0; pop "                         \
      "%fs; mov $3, %eax; mov %eax, %gs; pushfq; mov 8(%rbx), %rcx; mov $0x13, "               \
      "%eax; mov %eax, %ds; hlt")                                                              \
    X(segment_beyond, "stc; mov $0x38, %eax; mov %eax, %fs; hlt")                              \
    X(segment_local, "stc; push $0x14; pop %gs; hlt")                                          \
    X(segment_untouched, "mov $0x9010, %eax; andb $0xfe, 5(%rax); mov $0x10, %ecx; mov %ecx, " \
                         "%ds; mov (%rax), %rdx; andb $0x7f, 5(%rax); mov %ecx, %es; hlt")     \
    X(segment_pop_fault, "stc; mov $0x400ffc, %esp; pop %fs; hlt")                             \
    X(user_segments,                                                                           \
      USER_DATA TO_USER(0x202) "mov $0x23, %eax; mov %eax, %fs; mov $0x2b, %ecx; "             \
                               "mov %ecx, %gs; mov $0x10, %eax; mov %eax, %ds; hlt")           \
    X(control_writes,                                                                          \
      "cmp %rcx, %rdx; mov $0x1234567890ab, %r11; mov %r11, %cr2; mov %cr2, %rax; "            \
      "mov %rax, %cr2; mov %cr3, %rcx; mov (%rbx), %rdx; mov %rcx, %cr3; mov "                 \
      "(%rbx), %rdx; invlpg (%rbx); mov 8(%rbx), %rdi; mov %cr4, %rcx; mov %rcx, "             \
      "%cr4; mov %cr0, %rcx; mov %rcx, %cr0; pushfq; bts $60, %rcx; mov %rcx, "                \
      "%cr3; hlt")                                                                             \
    X(msrs,                                                                                    \
      "mov $0xc0000100, %ecx; mov $0x201000, %eax; xor %edx, %edx; cmp %rcx, %rdx; wrmsr; "    \
      "mov %fs:8, %rdi; rdmsr; mov %eax, %ebp; mov $0xc0000102, %ecx; wrmsr; rdmsr; swapgs; "  \
      "mov %gs:8, %r12; swapgs; pushfq; mov $0xc0000101, %ecx; mov $0x8000, %edx; wrmsr; hlt") \
    X(vectors_over_io, /* C code runs, and the simulator's, with all vector state in use */    \
      "movl $0x7f80, (%rbx); ldmxcsr (%rbx); vmovups (%rbx), %ymm1; vmovups 32(%rsi), %ymm12;" \
      "fninit; fldpi; fld1; out %al, $0x80; vpaddd %ymm1, %ymm12, %ymm3; fadd %st(1), %st;"    \
      "in $0x80, %al; stmxcsr (%rbx); fnstsw %ax; out %al, $0x80;"                             \
      "vmovups %ymm3, 32(%rbx); vxorps %ymm7, %ymm7, %ymm7; fnstcw 64(%rbx); vmovups "         \
      "%ymm12, 0x300(%rbx); fstpl 8(%rbx); hlt")                                               \
    X(modify_second_page,                                                                      \
      "9: xor %r13d, %r13d; mov %r13d, %r12d; jmp 1f; .skip 4095-(.-9b); 1: mov "              \
      "$0x11223344, %eax; lea (%r12,%rax), %r12; inc %r13; cmp $4, %r13; je 2f; "              \
      "addl $5, 1+1b(%rip); jmp 1b; 2: hlt")

#define DEFINE(name, text)                                                                     \
    extern const u8 start_##name[], end_##name[];                                              \
    __asm__(".pushsection .rodata\nstart_" #name ":\n" text "\nend_" #name ":\n."              \
            "popsection\n");
SNIPPETS(DEFINE)

static const struct snippet snippets[] = {
#define ROW(name, text) {#name, start_##name, end_##name},
    SNIPPETS(ROW)};

static struct guest *run(const struct engine *engine, const struct snippet *s, u64 base,
                         u64 seed)
{
    struct guest *g = guest_create(engine, seed);
    guest_write(g, base, s->start, (u64)(s->end - s->start));
    g->vcpu->cpu.rip = base;
    assert_int_equal(guest_run(g), EXIT_HALTED);
    return g;
}

static void compare(const struct snippet *s, u64 base, u64 seed)
{
    struct guest *sim = run(&sim_engine, s, base, seed);
    struct guest *bt = run(&bt_engine, s, base, seed);
    const char *difference = guest_compare(sim, bt, 0);
    if (difference)
        fail_msg("%s at %#llx, seed %llu: %s", s->name, (unsigned long long)base,
                 (unsigned long long)seed, difference);
    guest_destroy(bt);
    guest_destroy(sim);
}

static void test_same_as_simulator(void **state)
{
    const struct snippet *s = *state;
    /* At a page's start; crossing a page at many places; in the upper half. */
    for (u64 seed = 1; seed < 4; seed++) {
        compare(s, CODE, seed);
        compare(s, KERNEL + CODE, seed);
        for (u64 back = 1; back < 100; back += 9)
            compare(s, CODE + PAGE_SIZE - back, seed);
    }
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(snippets)];
    for (unsigned i = 0; i < ARRAY_LEN(snippets); i++)
        tests[i] = (struct CMUnitTest){.name = snippets[i].name,
                                       .test_func = test_same_as_simulator,
                                       .initial_state = (void *)&snippets[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
