/*
 * Entry of the 64-bit kernels: multiboot leaves us in flat 32-bit protected mode; build tables
 * and go to long mode. Physical memory appears at 0 (supervisor, first GiB), once more at 2 GiB
 * (user), and device space at 3 GiB (supervisor, uncached).
 */
    .intel_syntax noprefix
    .set MAGIC, 0x1badb002
    .set FLAGS, 0x3             /* align modules, want the memory map */

    .section .multiboot, "a"
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .text
    .code32
    .globl start
start:
    cld
    mov esp, offset boot_stack + 0x4000
    push 0
    push ebx                    /* multiboot information */
    push 0
    push eax                    /* multiboot magic */

    mov edi, offset pd0
    mov eax, 0x83
    call fill
    mov edi, offset pd2
    mov eax, 0x87
    call fill
    mov edi, offset pd3
    mov eax, 0xc0000000 + 0x93
    call fill
    mov dword ptr [pdpt0], offset pd0 + 7
    mov dword ptr [pdpt0 + 16], offset pd2 + 7
    mov dword ptr [pdpt0 + 24], offset pd3 + 7
    mov dword ptr [pml4], offset pdpt0 + 7
    call enter_long
    lgdt [boot_gdtr]
    jmp 0x08:start_long

/* 512 entries of 2 MiB from EAX at EDI. */
fill:
    mov ecx, 512
1:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop 1b
    ret

/* Also used by the application processors: their trampoline calls it. */
enter_long:
    mov eax, cr4
    or eax, 0x20                /* PAE */
    mov cr4, eax
    mov eax, offset pml4
    mov cr3, eax
    mov ecx, 0xc0000080         /* EFER */
    rdmsr
    or eax, 0x900               /* LME, NXE */
    wrmsr
    mov eax, cr0
    or eax, 0x80000023          /* PG, NE, MP, PE */
    and eax, 0x9ffffff3         /* CD, NW, TS, EM off */
    mov cr0, eax
    ret

    .code64
start_long:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    pop rdi
    pop rsi
    call bare_main
    ud2

/* Application processors begin here, copied to 0x8000 by smp.c. */
    .code16
    .globl ap_start, ap_end
ap_start:
    cli
    xor ax, ax
    mov ds, ax
    .byte 0x66
    lgdt [0x8000 + ap_gdtr - ap_start]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea            /* far jump with a 32-bit offset */
    .long ap_protected
    .word 0x18
    .balign 4
ap_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
ap_end:

    .code32
ap_protected:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    call 1f                     /* a stack only for this pair */
1:  mov esp, offset ap_small_stack + 64
    call enter_long
    jmp 0x08:ap_long
    .code64
ap_long:
    mov eax, 1
    lock xadd [ap_ticket], eax
    mov eax, eax
    mov rsp, [ap_stacks + rax * 8]
    mov edi, eax
    call ap_main
    ud2

    .data
    .balign 16
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
boot_gdt_end:
boot_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt
    .globl ap_ticket
    .balign 4
ap_ticket:
    .long 0

    .bss
    .balign 4096
    .globl pml4, pdpt0, pd0, pd2, pd3
pml4:   .skip 4096
pdpt0:  .skip 4096
pd0:    .skip 4096
pd2:    .skip 4096
pd3:    .skip 4096
ap_small_stack: .skip 64
    .section .note.GNU-stack, "", @progbits
