/* Fields of 9P messages, see p9_message.h. */
#include "host/share/p9_message.h"

#include <string.h>

u64 p9_get(struct p9_in *in, unsigned size)
{
    u64 value = 0;
    if ((size_t)(in->end - in->at) < size) {
        in->bad = true;
        return 0;
    }
    memcpy(&value, in->at, size);
    in->at += size;
    return value;
}

void p9_get_string(struct p9_in *in, char *text, size_t size)
{
    size_t len = p9_get(in, 2);
    text[0] = 0;
    if (in->bad || (size_t)(in->end - in->at) < len || len >= size || memchr(in->at, 0, len)) {
        in->bad = true;
        return;
    }
    memcpy(text, in->at, len);
    text[len] = 0;
    in->at += len;
}

void p9_put(struct p9_out *out, unsigned size, u64 value)
{
    if (p9_room(out) < size) {
        out->full = true;
        return;
    }
    memcpy(out->at, &value, size);
    out->at += size;
}

void p9_put_string(struct p9_out *out, const char *text)
{
    size_t len = strlen(text);
    p9_put(out, 2, len);
    if (p9_room(out) < len) {
        out->full = true;
        return;
    }
    memcpy(out->at, text, len);
    out->at += len;
}
