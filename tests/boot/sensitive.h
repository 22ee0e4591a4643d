/* What sensitive.c and sensitive32.c share: how the rows of their tables are written. */
#pragma once

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE     4096

/* A string of bytes, and how long it is. */
#define CODE(...) {__VA_ARGS__}, sizeof((unsigned char[]){__VA_ARGS__})

#define CPUID(leaf, subleaf)                                                                   \
    {                                                                                          \
        "cpuid " #leaf " " #subleaf, CODE(0x0f, 0xa2), leaf, subleaf, 0                        \
    }

/* LAR, LSL, VERR, VERW of a selector in ECX: flags and EAX, whose bits 19:16 LAR leaves
 * undefined. */
#define LOOKS(sel)                                                                             \
    {"lar " #sel, CODE(0x0f, 0x02, 0xc1), 7, sel, 0xf0ff07},                                   \
        {"lsl " #sel, CODE(0x0f, 0x03, 0xc1), 7, sel, 0},                                      \
        {"verr " #sel, CODE(0x0f, 0x00, 0xe1), 7, sel, 0},                                     \
    {                                                                                          \
        "verw " #sel, CODE(0x0f, 0x00, 0xe9), 7, sel, 0                                        \
    }
