/* The 32-bit counterpart of stub64.S; it also enters and leaves virtual-8086 mode. */
    .intel_syntax noprefix
    .text
    .code32
    .globl trap_stubs, run_enter, run_leave

    .balign 16
    .set vec, 0
trap_stubs:
    .rept 256
    .balign 16
    .if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21)
    push 0
    .endif
    .byte 0x68
    .long vec
    .byte 0xe9
    .long trap_common - (. + 4)
    .set vec, vec + 1
    .endr

trap_common:
    pushad
    push ds
    push es
    push fs
    push gs
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov eax, esp
    cld
    mov ebx, esp
    and esp, -16
    sub esp, 12
    push eax
    call trap_dispatch
    mov esp, ebx
    pop gs
    pop fs
    pop es
    pop ds
    popad
    add esp, 8
    iretd

/* void run_enter(struct regs *r, ulong *saved_sp) */
run_enter:
    mov eax, [esp + 4]
    mov edx, [esp + 8]
    push ebx
    push ebp
    push esi
    push edi
    pushfd
    mov [edx], esp
    test dword ptr [eax + 64], 0x20000 /* VM */
    jnz 3f
    test dword ptr [eax + 60], 3
    jnz 2f
    mov ebx, [eax + 68]         /* same privilege: IRET will not load the stack */
    mov ecx, [eax + 72]
    mov ss, ecx
    mov esp, ebx
    jmp 1f
3:  push [eax + 0]              /* GS, FS, DS, ES above the stack pointer */
    push [eax + 4]
    push [eax + 12]
    push [eax + 8]
2:  push [eax + 72]
    push [eax + 68]
1:  push [eax + 64]
    push [eax + 60]
    push [eax + 56]
    mov edi, [eax + 16]
    mov esi, [eax + 20]
    mov ebp, [eax + 24]
    mov ebx, [eax + 32]
    mov edx, [eax + 36]
    test dword ptr [eax + 64], 0x20000
    jnz 4f
    mov ecx, [eax + 4]
    mov fs, ecx
    mov ecx, [eax]
    mov gs, ecx
    mov ecx, [eax + 8]
    mov es, ecx
    mov ecx, [eax + 12]
    mov ds, ecx
4:  mov ecx, cs:[eax + 40]
    mov eax, cs:[eax + 44]
    .globl run_iret
run_iret:
    iretd

/* void run_leave(ulong saved_sp) */
run_leave:
    mov eax, [esp + 4]
    mov ecx, 0x10
    mov ss, ecx
    mov esp, eax
    mov ds, ecx
    mov es, ecx
    xor ecx, ecx
    mov fs, ecx
    mov gs, ecx
    push 2
    push 0x08
    push offset 1f
    iretd
1:  popfd
    pop edi
    pop esi
    pop ebp
    pop ebx
    ret
    .section .note.GNU-stack, "", @progbits
