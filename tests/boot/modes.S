/*
 * A boot sector that shows the video BIOS's graphics modes, one after each key: a dot at (10, 5),
 * and no more. screens.py knows what each must look like.
 */
    .code16
    .globl _start
    .text
_start:
    ljmp    $0, $begin
begin:
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7c00, %sp
    movw    $modes, %si
next:
    lodsw                       /* the mode; from 100h on VBE's, with a linear frame buffer */
    testw   %ax, %ax
    jz      done
    movw    %ax, %bx
    cmpw    $0x100, %ax
    jb      1f
    movw    $0x4f02, %ax
1:  pushw   %si
    int     $0x10
    popw    %si
    lodsw                       /* the dot's colour */
    movb    $0x0c, %ah
    xorb    %bh, %bh
    movw    $10, %cx
    movw    $5, %dx
    pushw   %si
    int     $0x10
    xorb    %ah, %ah
    int     $0x16
    popw    %si
    jmp     next
done:
    movw    $3, %ax
    int     $0x10
    movw    $text, %si
1:  lodsb
    testb   %al, %al
    jz      2f
    movb    $0x0e, %ah
    movw    $0x0007, %bx
    int     $0x10
    jmp     1b
2:  hlt
    jmp     2b

modes:
    .word   0x04, 3, 0x06, 1, 0x0d, 15, 0x0e, 15, 0x10, 15, 0x11, 1, 0x12, 15, 0x13, 15
    .word   0x102, 15, 0x103, 15, 0
text:
    .asciz  "all modes\r\n"
    .org    510
    .word   0xaa55
