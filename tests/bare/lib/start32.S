/* Entry of the 32-bit kernels: they stay in flat protected mode, without paging. */
    .intel_syntax noprefix
    .set MAGIC, 0x1badb002
    .set FLAGS, 0x3

    .section .multiboot, "a"
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .text
    .code32
    .globl start
start:
    cld
    mov esp, offset boot_stack + 0x4000
    push ebx
    push eax
    call bare_main
    ud2
    .section .note.GNU-stack, "", @progbits
