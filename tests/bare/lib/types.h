/* Fixed-width words and the few helpers that every test kernel uses. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef unsigned long ulong; /* the width of a general register of the kernel's mode */

#define NULL         ((void *)0)
#define BIT(n)       (1ull << (n))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { false, true };
typedef _Bool bool;
