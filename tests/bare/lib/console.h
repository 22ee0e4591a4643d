/* Text output and the end of a test kernel. */
#pragma once
#include "types.h"

/* %s %c %d %u %x with l and ll, and a width with 0: what the tests print. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the machine through the debug-exit port 0xf4: the VMM's status is (value << 1) | 1. */
void machine_exit(u8 value) __attribute__((noreturn));

enum { EXIT_PASS = 0x10, EXIT_FAIL = 0x11 };
