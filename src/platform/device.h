/*
 * A device as the machine sees it: a const class at the end of the device's file, and its state
 * declared once (law 8) as a table of fields that save, load, compare and print walk.
 */
#pragma once

#include "base/types.h"

struct board;

enum field_kind { FIELD_UINT, FIELD_BOOL, FIELD_BYTES, FIELD_MEMORY };

/* One field of a device's state: `size` bytes at `offset` in the device struct. FIELD_UINT is
 * an unsigned integer of 1, 2, 4 or 8 bytes, `count` of them in a row, FIELD_BOOL a bool
 * (loaded as 0 or 1, whatever the bytes say); FIELD_BYTES is `size` raw bytes,
 * FIELD_MEMORY too many of them to print. Host pointers,
 * wires and timers are never fields; a timer's deadline is (post_load arms it again). */
struct field {
    const char *name;
    enum field_kind kind;
    u32 offset;
    u32 size;
    u32 count;
};

#define FIELD_KIND(lvalue) _Generic((lvalue), bool : FIELD_BOOL, default : FIELD_UINT)

/* clang-format off */
#define FIELD(type, member)                                                                    \
    {#member, FIELD_KIND(((type *)0)->member), offsetof(type, member),                         \
     sizeof(((type *)0)->member), 1}
#define FIELD_ARRAY(type, member)                                                              \
    {#member, FIELD_KIND(((type *)0)->member[0]), offsetof(type, member),                      \
     sizeof(((type *)0)->member[0]), ARRAY_LEN(((type *)0)->member)}
#define FIELD_BLOB(type, member)                                                               \
    {#member, FIELD_BYTES, offsetof(type, member), sizeof(((type *)0)->member), 1}
#define FIELD_RAM(type, member)                                                                \
    {#member, FIELD_MEMORY, offsetof(type, member), sizeof(((type *)0)->member), 1}
/* clang-format on */

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

/* One device of a machine; part of the device's own struct. */
struct device {
    const struct device_class *class;
    void *state;       /* what the fields' offsets count from, and what the class gets */
    unsigned instance; /* tells devices of one class apart, from 0 in order of adding */
    struct device *next;
};

/* Enters the device into board->devices; done by each device's create function. */
void device_add(struct board *board, struct device *device, const struct device_class *class,
                void *state);

/* Resets all devices in the order they were added. */
void devices_reset(struct board *board);

/* A growing byte string, for what devices are saved to. All zero is an empty one. */
struct device_buffer {
    u8 *data;
    size_t len;
    size_t capacity;
};
void device_buffer_free(struct device_buffer *buffer);

/*
 * One device's record: class name, instance, version, payload length, payload (the fields in
 * table order, little-endian, as wide as they are in the struct).
 *
 * device_load takes one record at the head of `data` and returns its length; 0: it is cut
 * short, of another device or version, or the device refused the state (the device then needs a
 * reset). The bytes may be hostile. All under the board lock.
 */
void device_save(const struct device *device, struct device_buffer *out);
size_t device_load(struct device *device, const void *data, size_t len);

/* The first field whose bytes differ between two states of one class; NULL: equal. */
const struct field *device_compare(const struct device_class *class, const void *a,
                                   const void *b);

/* Writes "class.instance.field=value" lines into `text`, snprintf's way: at most `size` bytes
 * with the final NUL; returns the length of the whole. */
size_t device_print(const struct device *device, char *text, size_t size);
