/*
 * A boot sector that shows the video BIOS's graphics modes, one after each key: a dot at (10, 5),
 * and no more. screens.py knows what each must look like.
 */
    .include "sector.inc"

    begin_sector
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
    call    print
1:  hlt
    jmp     1b

    define_print

modes:
    .word   0x04, 3, 0x06, 1, 0x0d, 15, 0x0e, 15, 0x10, 15, 0x11, 1, 0x12, 15, 0x13, 15
    .word   0x102, 15, 0x103, 15, 0
text:
    .asciz  "all modes\r\n"
    end_sector
