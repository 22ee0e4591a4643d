/*
 * The disk that firmware.py boots: a boot sector, a second sector that it loads, and data.
 *
 * What must be the BIOS's work goes through the BIOS: the text by INT 10h, sectors by INT 13h
 * (cylinder, head, sector and linear), the memory map by INT 15h. Each step prints its name; a
 * failure prints '!' and ends with status 2 * 1 + 1, success with 2 * 10h + 1.
 */
    .include "sector.inc"

    begin_sector
    movb    %dl, drive
    movw    $hello, %si
    call    print

    /* Sector 2 of cylinder 0, head 0 */
    movw    $0x0201, %ax
    movw    $0x7e00, %bx
    movw    $0x0002, %cx
    xorb    %dh, %dh
    int     $0x13
    jc      fail
    jmp     second

    define_print

fail:
    movw    $failed, %si
    call    print
    movb    $1, %al
    outb    %al, $0xf4
    hlt

/* %eax in hexadecimal */
print_hex:
    movw    $8, %cx
1:  roll    $4, %eax
    pushl   %eax
    pushw   %cx
    andb    $15, %al
    addb    $0x90, %al
    daa
    adcb    $0x40, %al
    daa
    movb    $0x0e, %ah
    movw    $0x0007, %bx
    int     $0x10
    popw    %cx
    popl    %eax
    loop    1b
    ret

hello:  .asciz "boot sector\r\n"
failed: .asciz "!\r\n"
drive:  .byte 0
    end_sector

second:
    movw    $text_second, %si
    call    print

    /* Linear: sector 2, which has a known word, and back to sector 3 */
    movw    $packet, %si
    movb    $0x42, %ah
    movb    drive, %dl
    int     $0x13
    jc      fail
    cmpl    $0x44495343, 0x8000
    jne     fail
    movw    $text_linear, %si
    call    print
    notl    0x8000
    movb    $3, packet + 8
    movw    $packet, %si
    movw    $0x4300, %ax
    movb    drive, %dl
    int     $0x13
    jc      fail
    movw    $text_write, %si
    call    print

    /* The memory map: bytes of RAM below 4 GiB */
    xorl    %ebx, %ebx
    xorl    %ebp, %ebp
1:  movl    $0xe820, %eax
    movl    $0x534d4150, %edx
    movl    $24, %ecx
    movw    $0x8400, %di
    int     $0x15
    jc      fail
    cmpl    $0x534d4150, %eax
    jne     fail
    cmpl    $1, 0x8410
    jne     2f
    addl    0x8408, %ebp
2:  testl   %ebx, %ebx
    jnz     1b
    movw    $text_memory, %si
    call    print
    movl    %ebp, %eax
    call    print_hex

    /* The BIOS's own segment is write-protected: what is written does not stay. */
    movw    $0xf000, %ax
    movw    %ax, %fs
    movb    %fs:0xfff0, %al
    notb    %fs:0xfff0
    cmpb    %al, %fs:0xfff0
    jne     fail

    movw    $text_end, %si
    call    print
    /* The timer's interrupt counts, and by it the BIOS sends the text that it holds back. */
    sti
    movl    0x46c, %eax
    addl    $2, %eax
3:  hlt
    cmpl    0x46c, %eax
    ja      3b
    movb    $0x10, %al
    outb    %al, $0xf4
    hlt

    .balign 4
packet:
    .byte   16, 0
    .word   1, 0x8000, 0
    .quad   2
text_second: .asciz "second sector\r\n"
text_linear: .asciz "linear read\r\n"
text_write:  .asciz "written\r\n"
text_memory: .asciz "memory "
text_end:    .asciz "\r\ndone\r\n"
    .org    1024
    .long   0x44495343
    .org    2048
