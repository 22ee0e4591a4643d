/*
 * A device as the machine sees it: a const class at the end of the device's file, and its state
 * declared once (law 8) as a table of fields that save, load, compare and print walk.
 */
#pragma once

#include "base/types.h"

enum field_kind { FIELD_UINT, FIELD_BYTES };

/* One field of a device's state: `size` bytes at `offset` in the device struct. FIELD_UINT is
 * an unsigned integer (bool included) of 1, 2, 4 or 8 bytes, `count` of them in a row;
 * FIELD_BYTES is `size` raw bytes. Host pointers, wires and timers are never fields; a timer's
 * deadline is (post_load arms it again). */
struct field {
    const char *name;
    enum field_kind kind;
    u32 offset;
    u32 size;
    u32 count;
};

#define FIELD(type, member)                                                                    \
    {                                                                                          \
#member, FIELD_UINT, offsetof(type, member), sizeof(((type *)0)->member), 1            \
    }
#define FIELD_ARRAY(type, member)                                                              \
    {                                                                                          \
#member, FIELD_UINT, offsetof(type, member), sizeof(((type *)0)->member[0]),           \
            sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0])                       \
    }
#define FIELD_BLOB(type, member)                                                               \
    {                                                                                          \
#member, FIELD_BYTES, offsetof(type, member), sizeof(((type *)0)->member), 1           \
    }

struct device_class {
    const char *name;
    u32 version; /* of the field table: raised when its meaning changes */
    const struct field *fields;
    unsigned n_fields;
    /* Power-on and reset-line state; under the board lock, vCPUs outside guest code. */
    void (*reset)(void *device);
    /* After all fields are loaded: re-arm timers, re-drive lines. May refuse (false) an
     * impossible state. */
    bool (*post_load)(void *device);
    void (*destroy)(void *device);
};
