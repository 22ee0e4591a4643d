/*
 * A floppy of the old days, in one sector and the three that it loads: text into the VGA's memory
 * and through the BIOS, sectors of three tracks with both heads, one written and read back, a line
 * from the keyboard, and a program in virtual-8086 mode. screens.py reads the screen.
 */
    .include "sector.inc"

    begin_sector
    movb    %dl, drive
    movw    $3, %ax             /* 80 x 25, cleared */
    int     $0x10
    movw    $hello, %si
    call    print
    movw    $0x0203, %ax        /* three sectors behind this one */
    movw    $0x7e00, %bx
    movw    $0x0002, %cx
    movb    drive, %dl
    xorb    %dh, %dh
    int     $0x13
    jc      fail
    jmp     second

    define_print

fail:
    movw    $failed, %si
    call    print
1:  hlt
    jmp     1b

hello:  .asciz "boot sector\r\n"
failed: .asciz "failed\r\n"
drive:  .byte 0
    end_sector

/* Sector 1 of track `ch`, head `dh` to 0:9000h; function in %ah. */
sector:
    movb    $1, %al
    movb    $1, %cl
    movb    drive, %dl
    movw    $0x9000, %bx
    int     $0x13
    jc      fail
    ret

second:
    movb    $2, %ah
    movw    $0x4f00, %cx        /* track 79, head 1: the image's last but 17 sectors */
    movb    $1, %dh
    call    sector
    cmpl    $0x44495343, 0x9000
    jne     fail
    movw    $text_far, %si
    call    print
    notl    0x9000
    movb    $3, %ah
    movw    $0x2800, %cx        /* to track 40 */
    movb    $0, %dh
    call    sector
    movl    $0, 0x9000
    movb    $2, %ah
    movw    $0x2800, %cx
    movb    $0, %dh
    call    sector
    cmpl    $~0x44495343, 0x9000
    jne     fail
    movw    $text_written, %si
    call    print

    /* Straight into the text memory, line 20 */
    movw    $0xb800, %ax
    movw    %ax, %es
    movw    $(20 * 160), %di
    movw    $text_direct, %si
    movb    $0x1e, %ah
1:  lodsb
    testb   %al, %al
    jz      2f
    stosw
    jmp     1b
2:  xorw    %ax, %ax
    movw    %ax, %es

    /* What is typed, until Enter, comes back. */
    movw    $text_type, %si
    call    print
1:  xorb    %ah, %ah
    int     $0x16
    cmpb    $13, %al
    je      2f
    movb    $0x0e, %ah
    movw    $0x0007, %bx
    int     $0x10
    jmp     1b
2:  movw    $text_typed, %si
    call    print

    /* Protected mode, a task of virtual-8086 mode, and out of it by INT 30h's exception */
    cli
    lgdt    gdt_pointer
    lidt    idt_pointer
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    ljmp    $8, $protected

    .code32
protected:
    movw    $16, %ax
    movw    %ax, %ds
    movw    %ax, %ss
    movl    $0x8f00, %esp
    movl    $0x8f00, 0x8504     /* the TSS's stack of ring 0 */
    movw    $16, 0x8508
    movw    $24, %ax
    ltr     %ax
    pushl   $0                  /* GS, FS, DS, ES of the task */
    pushl   $0
    pushl   $0xb800
    pushl   $0
    pushl   $0                  /* SS:SP */
    pushl   $0x8d00
    pushl   $0x20002            /* VM */
    pushl   $0                  /* CS:IP */
    pushl   $v86
    iret

    .code16
v86:
    movw    $(21 * 160), %bx
    movw    $0x2f56, (%bx)      /* "V86" in white on green */
    movw    $0x2f38, 2(%bx)
    movw    $0x2f36, 4(%bx)
    cli                         /* with IOPL 0: a general protection fault */

    .code32
general_protection:
    addl    $4, %esp
    testl   $0x20000, 8(%esp)   /* from virtual-8086 mode, and no other */
    jz      1f
    movl    $(0xb8000 + 22 * 160), %ebx
    movl    $0x0a4f0a44, %ss:(%ebx) /* "DONE" in green; DS is null now */
    movl    $0x0a450a4e, %ss:4(%ebx)
1:  hlt
    jmp     1b

    .balign 8
gdt:
    .quad   0
    .quad   0x00cf9a000000ffff
    .quad   0x00cf92000000ffff
    .quad   0x0000890085000067  /* the TSS at 8500h */
gdt_pointer:
    .word   31
    .long   gdt
idt_pointer:
    .word   14 * 8 - 1
    .long   idt
    .balign 8
idt:
    .fill   13, 8, 0
    .word   general_protection, 8, 0x8e00, 0
text_far:     .asciz "far track\r\n"
text_written: .asciz "written\r\n"
text_direct:  .asciz "straight into the memory"
text_type:    .asciz "type: "
text_typed:   .asciz "\r\nthank you\r\n"
    .org    2048
