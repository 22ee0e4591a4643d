/*
 * Entry points of all vectors, and the two ways between C and the code under test: run_enter()
 * loads a struct regs with IRET; run_leave() abandons the exception and returns to C.
 */
    .intel_syntax noprefix
    .text
    .code64
    .globl trap_stubs, run_enter, run_leave

    .balign 16
    .set vec, 0
trap_stubs:
    .rept 256
    .balign 16
    .if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21)
    push 0                      /* in place of the error code */
    .endif
    .byte 0x68                  /* push imm32 */
    .long vec
    .byte 0xe9                  /* jmp rel32: all stubs of one length */
    .long trap_common - (. + 4)
    .set vec, vec + 1
    .endr

trap_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov eax, ds
    push rax
    mov eax, es
    push rax
    mov eax, fs
    push rax
    mov eax, gs
    push rax
    mov rdi, rsp
    cld
    mov rbx, rsp
    and rsp, -16
    call trap_dispatch
    mov rsp, rbx
    add rsp, 32                 /* the data segments were not changed */
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

/* void run_enter(struct regs *r, ulong *saved_sp) */
run_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    mov [rsi], rsp
    mov eax, [rdi + 24]
    mov ds, eax
    mov eax, [rdi + 16]
    mov es, eax
    mov eax, [rdi + 8]          /* FS and GS only on demand: loading them changes their bases */
    test eax, eax
    jz 1f
    mov fs, eax
1:  mov eax, [rdi]
    test eax, eax
    jz 2f
    mov gs, eax
2:  push [rdi + 200]            /* SS, RSP, RFLAGS, CS, RIP */
    push [rdi + 192]
    push [rdi + 184]
    push [rdi + 176]
    push [rdi + 168]
    mov r15, [rdi + 32]
    mov r14, [rdi + 40]
    mov r13, [rdi + 48]
    mov r12, [rdi + 56]
    mov r11, [rdi + 64]
    mov r10, [rdi + 72]
    mov r9, [rdi + 80]
    mov r8, [rdi + 88]
    mov rsi, [rdi + 104]
    mov rbp, [rdi + 112]
    mov rbx, [rdi + 120]
    mov rdx, [rdi + 128]
    mov rcx, [rdi + 136]
    mov rax, [rdi + 144]
    mov rdi, [rdi + 96]
    .globl run_iret
run_iret:
    iretq

/* void run_leave(ulong saved_sp): through IRET, which also ends the blocking of NMIs */
run_leave:
    mov rsp, rdi
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov rax, rsp
    push 0x10
    push rax
    push 2
    push 0x08
    lea rax, [rip + 1f]
    push rax
    iretq
1:  popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .section .note.GNU-stack, "", @progbits
