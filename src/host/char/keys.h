/* Doppel's own keys in a stream of typed bytes: Ctrl-a and a letter, as QEMU has them. */
#pragma once

#include "host/char/char.h"

struct keys {
    bool enabled;
    bool pending; /* a Ctrl-a was typed */
    struct char_keys actions;
    void (*next)(void *opaque); /* Ctrl-a c */
    void *next_opaque;
};

void keys_init(struct keys *keys, bool enabled, const struct char_keys *actions);

/* Copies what is for the guest to `out`, which has room for `len` bytes, acts on the rest, and
 * returns how many bytes were copied. */
size_t keys_filter(struct keys *keys, const u8 *in, size_t len, u8 *out);
