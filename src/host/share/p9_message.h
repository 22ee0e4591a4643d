/* Fields of 9P messages: little-endian integers, strings with a 16-bit length, counted on both
 * sides so that no message reads or writes beyond its end. */
#pragma once

#include "base/types.h"

struct p9_in {
    const u8 *at, *end;
    bool bad; /* it was shorter than its fields, or a string no name */
};

struct p9_out {
    u8 *start, *at, *end;
    bool full;
};

/* `size` 1, 2, 4 or 8. */
u64 p9_get(struct p9_in *in, unsigned size);
/* A string into `text` with a final NUL; bad when it is longer or has a NUL inside. */
void p9_get_string(struct p9_in *in, char *text, size_t size);

void p9_put(struct p9_out *out, unsigned size, u64 value);
void p9_put_string(struct p9_out *out, const char *text);
static inline size_t p9_room(const struct p9_out *out)
{
    return (size_t)(out->end - out->at);
}
