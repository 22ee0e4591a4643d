/*
 * Scan codes of PC keyboards (IBM PS/2 Hardware Interface Technical Reference, keyboards, 101-
 * and 102-key; Microsoft's Keyboard Scan Code Specification 1.3a for keys that came later).
 */
#pragma once

#include "platform/input.h"

#define SCAN_EXTENDED 0xe000u /* or'ed to a code that follows E0h */
#define SCAN_BREAK    0xf0    /* sets 2 and 3: before a code, the key went up */

/* How a key reports (set 3 only: in the others all but Pause do both). */
#define SCAN_REPORTS_BREAK BIT(0)
#define SCAN_REPEATS       BIT(1)

struct scan_code {
    u16 set2; /* 0: a key without, or with a sequence of its own (Print, Pause) */
    u8 set3;  /* 0: none */
    u8 mode;  /* in set 3, at power-on */
};

extern const struct scan_code scan_codes[INPUT_KEYS];

/*
 * The key that QEMU's send-key means by a number: set 1's make code, 80h more behind E0h, and
 * the last byte's for what is a sequence. INPUT_KEY_NONE: no key.
 */
enum input_key scan_key_numbered(u64 number);

/* Set 1's make code for a code of set 2: what the keyboard controller translates. */
u8 scan_set1(u8 set2);
