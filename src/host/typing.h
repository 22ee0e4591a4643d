/* What a terminal sends for a key, as keys of a US keyboard; and how the characters of its
 * screen are called today. */
#pragma once

#include <stddef.h>
#include <wchar.h>

#include "platform/input.h"

#define TYPING_MAX 4

/* The keys to press for a byte that was typed, at most TYPING_MAX: modifiers first. Returns how
 * many; 0: no key has it. */
unsigned typing_byte(unsigned char byte, enum input_key *keys);

/* Unicode's character for one of code page 437, which is what a PC's screen shows: control
 * characters are symbols there. */
wchar_t typing_cp437(u8 character);
