/* The keys, see keys.h. */
#include "host/char/keys.h"

#include <stdio.h>

#define CTRL_A 1

static const char help[] = "\n"
                           "Ctrl-a x   leave: the machine ends at once\n"
                           "Ctrl-a h   this help\n"
                           "Ctrl-a c   from the serial line to the monitor and back\n"
                           "Ctrl-a b   send a break on the serial line\n"
                           "Ctrl-a Ctrl-a   send Ctrl-a to the guest\n";

void keys_init(struct keys *keys, bool enabled, const struct char_keys *actions)
{
    *keys = (struct keys){.enabled = enabled};
    if (actions)
        keys->actions = *actions;
}

/* The second key; true: it is for the guest. */
static bool act(struct keys *keys, u8 key)
{
    switch (key) {
    case CTRL_A:
        return true;
    case 'x':
        if (keys->actions.leave)
            keys->actions.leave(keys->actions.opaque);
        return false;
    case 'b':
        if (keys->actions.send_break)
            keys->actions.send_break(keys->actions.opaque);
        return false;
    case 'c':
        if (keys->next)
            keys->next(keys->next_opaque);
        return false;
    case 'h':
    case '?':
        fputs(help, stderr);
        return false;
    default:
        return false;
    }
}

size_t keys_filter(struct keys *keys, const u8 *in, size_t len, u8 *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < len; i++) {
        if (keys->pending) {
            keys->pending = false;
            if (act(keys, in[i]))
                out[kept++] = in[i];
        } else if (keys->enabled && in[i] == CTRL_A) {
            keys->pending = true;
        } else {
            out[kept++] = in[i];
        }
    }
    return kept;
}
