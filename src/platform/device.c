/* Declared device state: what walks the field tables, see device.h. */
#include "platform/device.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "platform/board.h"

void device_add(struct board *board, struct device *device, const struct device_class *class,
                void *state)
{
    *device = (struct device){.class = class, .state = state};
    struct device **link = &board->devices;
    for (; *link; link = &(*link)->next)
        if ((*link)->class == class)
            device->instance++;
    *link = device;
}

void devices_reset(struct board *board)
{
    for (struct device *d = board->devices; d; d = d->next)
        if (d->class->reset)
            d->class->reset(d->state);
}

void device_buffer_free(struct device_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct device_buffer){0};
}

static void buffer_put(struct device_buffer *buffer, const void *data, size_t len)
{
    if (buffer->len + len > buffer->capacity) {
        buffer->capacity = 2 * (buffer->len + len);
        buffer->data = realloc(buffer->data, buffer->capacity);
        ensure(buffer->data);
    }
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
}

/* Integers are stored as the host has them: x86-64 is little-endian. */
static void buffer_put_u32(struct device_buffer *buffer, u32 value)
{
    buffer_put(buffer, &value, sizeof(value));
}

static size_t field_bytes(const struct field *field)
{
    return (size_t)field->size * field->count;
}

static size_t class_bytes(const struct device_class *class)
{
    size_t sum = 0;
    for (unsigned i = 0; i < class->n_fields; i++)
        sum += field_bytes(&class->fields[i]);
    return sum;
}

void device_save(const struct device *device, struct device_buffer *out)
{
    const struct device_class *class = device->class;
    size_t name = strlen(class->name);
    buffer_put_u32(out, (u32)name);
    buffer_put(out, class->name, name);
    buffer_put_u32(out, device->instance);
    buffer_put_u32(out, class->version);
    buffer_put_u32(out, (u32)class_bytes(class));
    for (unsigned i = 0; i < class->n_fields; i++)
        buffer_put(out, (const u8 *)device->state + class->fields[i].offset,
                   field_bytes(&class->fields[i]));
}

struct reader {
    const u8 *data;
    size_t left;
};

static const void *reader_take(struct reader *reader, size_t len)
{
    if (reader->left < len)
        return NULL;
    const void *taken = reader->data;
    reader->data += len;
    reader->left -= len;
    return taken;
}

static bool reader_expect(struct reader *reader, const void *bytes, size_t len)
{
    const void *taken = reader_take(reader, len);
    return taken && !memcmp(taken, bytes, len);
}

static bool reader_expect_u32(struct reader *reader, u32 value)
{
    return reader_expect(reader, &value, sizeof(value));
}

static void field_load(const struct field *field, u8 *to, const u8 *from)
{
    memcpy(to, from, field_bytes(field));
    if (field->kind == FIELD_BOOL)
        for (size_t i = 0; i < field_bytes(field); i++)
            to[i] = to[i] != 0;
}

size_t device_load(struct device *device, const void *data, size_t len)
{
    const struct device_class *class = device->class;
    size_t name = strlen(class->name);
    struct reader reader = {data, len};
    if (!reader_expect_u32(&reader, (u32)name) || !reader_expect(&reader, class->name, name) ||
        !reader_expect_u32(&reader, device->instance) ||
        !reader_expect_u32(&reader, class->version) ||
        !reader_expect_u32(&reader, (u32)class_bytes(class)) ||
        reader.left < class_bytes(class))
        return 0;
    for (unsigned i = 0; i < class->n_fields; i++) {
        const struct field *field = &class->fields[i];
        field_load(field, (u8 *)device->state + field->offset,
                   reader_take(&reader, field_bytes(field)));
    }
    if (class->post_load && !class->post_load(device->state))
        return 0;
    return len - reader.left;
}

const struct field *device_compare(const struct device_class *class, const void *a,
                                   const void *b)
{
    for (unsigned i = 0; i < class->n_fields; i++) {
        const struct field *field = &class->fields[i];
        if (memcmp((const u8 *)a + field->offset, (const u8 *)b + field->offset,
                   field_bytes(field)) != 0)
            return field;
    }
    return NULL;
}

struct writer {
    char *text;
    size_t size;
    size_t len;
};

static void __attribute__((format(printf, 2, 3)))
writer_put(struct writer *writer, const char *format, ...)
{
    char piece[128];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(piece, sizeof(piece), format, args);
    va_end(args);
    ensure(n >= 0 && (size_t)n < sizeof(piece));
    for (int i = 0; i < n; i++, writer->len++)
        if (writer->len + 1 < writer->size)
            writer->text[writer->len] = piece[i];
}

static u64 field_value(const u8 *at, u32 size)
{
    u64 value = 0;
    memcpy(&value, at, size);
    return value;
}

/* FNV-1a: tells two states apart at a glance. */
static u64 hash(const u8 *bytes, size_t len)
{
    u64 h = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < len; i++)
        h = (h ^ bytes[i]) * 0x100000001b3ull;
    return h;
}

static void field_print(const struct field *field, const u8 *at, struct writer *writer)
{
    if (field->kind == FIELD_BYTES) {
        for (size_t i = 0; i < field_bytes(field); i++)
            writer_put(writer, "%02x", at[i]);
        return;
    }
    if (field->kind == FIELD_MEMORY) {
        writer_put(writer, "%u bytes, hash %016" PRIx64, field->size, hash(at, field->size));
        return;
    }
    for (u32 i = 0; i < field->count; i++)
        writer_put(writer, "%s0x%" PRIx64, i ? "," : "",
                   field_value(at + (size_t)i * field->size, field->size));
}

size_t device_print(const struct device *device, char *text, size_t size)
{
    const struct device_class *class = device->class;
    struct writer writer = {text, size, 0};
    for (unsigned i = 0; i < class->n_fields; i++) {
        const struct field *field = &class->fields[i];
        writer_put(&writer, "%.40s.%u.%.40s=", class->name, device->instance, field->name);
        field_print(field, (const u8 *)device->state + field->offset, &writer);
        writer_put(&writer, "\n");
    }
    if (size)
        text[writer.len < size ? writer.len : size - 1] = 0;
    return writer.len;
}
