/* Counting checks: each failure is one line, check_done() prints the sum and ends the
 * machine. */
#pragma once
#include "types.h"
#include "console.h"

bool check_at(const char *file, int line, const char *name, bool ok);
bool check_equal_at(const char *file, int line, const char *name, u64 got, u64 expected);

#define check(name, ok) check_at(__FILE_NAME__, __LINE__, name, ok)
#define check_equal(name, got, expected)                                                       \
    check_equal_at(__FILE_NAME__, __LINE__, name, got, expected)

/* Says that something is not checked here, and why; a skip is neither a pass nor a failure. */
void check_skip(const char *name, const char *reason);

/* True under QEMU's translator (CPUID leaf 0x40000000), whose known errors are skipped. */
bool on_tcg(void);

void check_done(void) __attribute__((noreturn));

/* For what QEMU's translator is known to do wrong: prints the reason and is true there. */
bool skip_tcg(const char *name, const char *reason);
