/*
 * The stub: all the code of ours that a cell and its mapper have (protocol.h). It is copied into
 * the first page of each block, so it reaches everything by its distance from itself. It has one
 * SYSCALL instruction, the only one that Syscall User Dispatch lets the cell use; a narrow cell
 * (cell.h) may also use the INT 80H behind it.
 */
#include "engine/direct/protocol.h"

#define PAGE      4096
#define FUTEX_NR  202
#define CLONE_NR  56
#define WRITE_NR  1
#define PRCTL_NR  157
#define SIGRET_NR 15
#define TLS_NR    243 /* of the 32-bit table */

#define ORDERS  (cell_stub + CELL_ORDERS_PAGE * PAGE)
#define CONTROL (cell_stub + CELL_CONTROL_PAGE * PAGE)
#define FRAME   (cell_stub + CELL_FRAME_PAGE * PAGE)

    .section .rodata
    .balign 64
    .globl cell_stub, cell_stub_end, cell_stub_start, cell_stub_handler
    .globl cell_stub_gadget, cell_stub_gadget_end, cell_stub_legacy_end
cell_stub:

/* The order at RBX; returns to R15 with the answer in RAX. */
order:
    mov     0(%rbx), %rax
    mov     8(%rbx), %rdi
    mov     16(%rbx), %rsi
    mov     24(%rbx), %rdx
    mov     32(%rbx), %r10
    mov     40(%rbx), %r8
    mov     48(%rbx), %r9
cell_stub_gadget:
    syscall
cell_stub_gadget_end:
    jmp     *%r15
/* The only way to set_thread_area: there is none for 64-bit programs. */
.Llegacy:
    int     $0x80
cell_stub_legacy_end:
    jmp     *%r15

/* -- The cell's set-up: runs the script, then waits for its first turn. */
cell_stub_start:
    lea     ORDERS + ORDERS_SCRIPT(%rip), %rbx
.Lscript:
    cmpq    $SCRIPT_END, 0(%rbx)
    je      .Lstopped
    lea     .Lanswer(%rip), %r15
    jmp     order
.Lanswer:
    cmp     $-4095, %rax
    jae     .Lfailed
    cmpq    $CLONE_NR, 0(%rbx)
    jne     .Lnext
    test    %rax, %rax
    jz      .Lmapper
.Lnext:
    add     $ORDER_SIZE, %rbx
    jmp     .Lscript
.Lfailed:
    mov     $1, %edi
    mov     $231, %eax              /* exit_group */
    jmp     cell_stub_gadget

/* -- The handler of every signal: RDI number, RSI info, RDX context. */
cell_stub_handler:
    lea     CONTROL(%rip), %rbx
    mov     %rdi, CONTROL_SIGNAL(%rbx)
    mov     %rsi, CONTROL_INFO(%rbx)
    mov     %rdx, CONTROL_CONTEXT(%rbx)
    rdtsc
    mov     %eax, CONTROL_STOPPED(%rbx)
    mov     %edx, CONTROL_STOPPED + 4(%rbx)
    rdfsbase %rax
    mov     %rax, CONTROL_FS_BASE(%rbx)
    rdgsbase %rax
    mov     %rax, CONTROL_GS_BASE(%rbx)
    mov     %ds, %eax
    mov     %ax, CONTROL_SELECTORS + 0(%rbx)
    mov     %es, %eax
    mov     %ax, CONTROL_SELECTORS + 2(%rbx)
    mov     %fs, %eax
    mov     %ax, CONTROL_SELECTORS + 4(%rbx)
    mov     %gs, %eax
    mov     %ax, CONTROL_SELECTORS + 6(%rbx)
.Lstopped:
    lea     CONTROL(%rip), %rbx
    mov     $1, %eax
    xchg    %eax, CONTROL_MTURN(%rbx)           /* before the look at monitor_asleep */
    cmpl    $0, CONTROL_MONITOR_ASLEEP(%rbx)
    je      .Lwait
    lea     CONTROL_MTURN(%rbx), %rdi
    mov     $1, %esi                            /* FUTEX_WAKE */
    mov     $1, %edx
    xor     %r10d, %r10d
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    mov     $FUTEX_NR, %eax
    lea     .Lwait(%rip), %r15
    jmp     cell_stub_gadget
/* No yield first: a cell that sleeps is parked, which the monitor has to see (cell_verify). */
.Lwait:
    mov     $1, %eax
    xchg    %eax, CONTROL_CELL_ASLEEP(%rbx)     /* before the look at turn, in the kernel */
.Lsleep:
    lea     CONTROL_TURN(%rbx), %rdi
    xor     %esi, %esi                          /* FUTEX_WAIT */
    xor     %edx, %edx
    xor     %r10d, %r10d
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    mov     $FUTEX_NR, %eax
    lea     .Lwoken(%rip), %r15
    jmp     cell_stub_gadget
.Lwoken:
    cmpl    $0, CONTROL_TURN(%rbx)
    je      .Lsleep
.Lresume:
    movl    $0, CONTROL_CELL_ASLEEP(%rbx)
    movl    $0, CONTROL_TURN(%rbx)
    mov     CONTROL_N_TLS(%rbx), %r12d
    add     $CONTROL_TLS, %rbx                  /* below 4 GiB in a narrow cell */
    lea     .Ltls_set(%rip), %r15
.Ltls:
    dec     %r12d
    js      .Lselectors
    mov     $TLS_NR, %eax
    jmp     .Llegacy
.Ltls_set:
    add     $TLS_SIZE, %rbx
    jmp     .Ltls
.Lselectors:
    lea     CONTROL(%rip), %rbx
    movzwl  CONTROL_NEW_SELECTORS + 0(%rbx), %eax
    mov     %eax, %ds
    movzwl  CONTROL_NEW_SELECTORS + 2(%rbx), %eax
    mov     %eax, %es
    movzwl  CONTROL_NEW_SELECTORS + 4(%rbx), %eax
    mov     %eax, %fs
    movzwl  CONTROL_NEW_SELECTORS + 6(%rbx), %eax
    mov     %eax, %gs
    mov     CONTROL_NEW_FS_BASE(%rbx), %rax
    wrfsbase %rax
    mov     CONTROL_NEW_GS_BASE(%rbx), %rax
    wrgsbase %rax
    rdtsc
    mov     %eax, CONTROL_STARTED(%rbx)
    mov     %edx, CONTROL_STARTED + 4(%rbx)
    lea     FRAME + PAGE(%rip), %rsp
    push    CONTROL_NEW_FLAGS(%rbx)
    popf
    lea     FRAME(%rip), %rsp
    mov     $SIGRET_NR, %eax
    jmp     cell_stub_gadget

/* -- The mapper: registers only, no stack. R12 is the last sequence seen. */
.Lmapper:
    mov     $1, %edi                            /* PR_SET_PDEATHSIG, before it waits for us */
    mov     $9, %esi                            /* SIGKILL */
    mov     $PRCTL_NR, %eax
    lea     .Lbound(%rip), %r15
    jmp     cell_stub_gadget
.Lbound:
    xor     %r12d, %r12d
.Lorders:
    lea     ORDERS(%rip), %rbp
    mov     ORDERS_SEQUENCE(%rbp), %edx
    cmp     %edx, %r12d
    jne     .Lbatch
    mov     %rbp, %rdi
    xor     %esi, %esi                          /* FUTEX_WAIT */
    xor     %r10d, %r10d
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    mov     $FUTEX_NR, %eax
    lea     .Lorders(%rip), %r15
    jmp     cell_stub_gadget
.Lbatch:
    mov     %edx, %r12d
    mov     ORDERS_N(%rbp), %r13d               /* once: after the report it is the next one's */
    xor     %r14d, %r14d
    lea     ORDERS_LIST(%rbp), %rbx
.Lorder:
    cmp     %r13d, %r14d
    je      .Lreport
    lea     .Lordered(%rip), %r15
    jmp     order
.Lordered:
    cmp     $-4095, %rax
    jae     .Lreport
    inc     %r14d
    add     $ORDER_SIZE, %rbx
    jmp     .Lorder
.Lreport:
    mov     $MAPPER_REPORT, %edi
    lea     ORDERS_VALUES(%rbp, %r14, 8), %rsi
    mov     $8, %edx
    mov     $WRITE_NR, %eax
    lea     .Lorders(%rip), %r15
    jmp     cell_stub_gadget
cell_stub_end:

    .section .note.GNU-stack, "", @progbits
