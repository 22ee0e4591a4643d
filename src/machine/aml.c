/* The AML assembler, see aml.h. Opcode names are those of ACPI 6.4, 20.2. */
#include "machine/aml.h"

#include <string.h>

#define ZERO_OP       0x00
#define ONE_OP        0x01
#define NAME_OP       0x08
#define BYTE_PREFIX   0x0a
#define WORD_PREFIX   0x0b
#define DWORD_PREFIX  0x0c
#define STRING_PREFIX 0x0d
#define QWORD_PREFIX  0x0e
#define SCOPE_OP      0x10
#define BUFFER_OP     0x11
#define PACKAGE_OP    0x12
#define DUAL_NAME     0x2e
#define EXT_PREFIX    0x5b
#define DEVICE_OP     0x82
#define PKG_LENGTH_SIZE                                                                        \
    3 /* always the three-byte form (20.2.4): patched when the end is known */
#define SEGMENT 4

static void put_byte(struct aml *aml, u8 byte)
{
    if (aml->size == aml->capacity) {
        aml->overflow = true;
        return;
    }
    aml->data[aml->size++] = byte;
}

static void put(struct aml *aml, u64 value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        put_byte(aml, (u8)(value >> 8 * i));
}

static void put_path(struct aml *aml, const char *name)
{
    if (*name == '\\')
        put_byte(aml, (u8)*name++);
    size_t length = strlen(name);
    if (length > SEGMENT) {
        put_byte(aml, DUAL_NAME);
        for (unsigned i = 0; i < SEGMENT; i++)
            put_byte(aml, (u8)name[i]);
        name += SEGMENT + 1; /* the dot */
    }
    for (unsigned i = 0; i < SEGMENT; i++)
        put_byte(aml, *name ? (u8)*name++ : '_');
}

static size_t block_begin(struct aml *aml)
{
    size_t mark = aml->size;
    put(aml, 0, PKG_LENGTH_SIZE);
    return mark;
}

void aml_end(struct aml *aml, size_t mark)
{
    size_t length = aml->size - mark;
    if (aml->overflow)
        return;
    aml->data[mark] = (u8)(2 << 6 | (length & 0xf));
    aml->data[mark + 1] = (u8)(length >> 4);
    aml->data[mark + 2] = (u8)(length >> 12);
}

size_t aml_scope_begin(struct aml *aml, const char *name)
{
    put_byte(aml, SCOPE_OP);
    size_t mark = block_begin(aml);
    put_path(aml, name);
    return mark;
}

size_t aml_device_begin(struct aml *aml, const char *name)
{
    put_byte(aml, EXT_PREFIX);
    put_byte(aml, DEVICE_OP);
    size_t mark = block_begin(aml);
    put_path(aml, name);
    return mark;
}

size_t aml_package_begin(struct aml *aml, u8 elements)
{
    put_byte(aml, PACKAGE_OP);
    size_t mark = block_begin(aml);
    put_byte(aml, elements);
    return mark;
}

void aml_name(struct aml *aml, const char *name)
{
    put_byte(aml, NAME_OP);
    put_path(aml, name);
}

void aml_integer(struct aml *aml, u64 value)
{
    if (value <= 1) {
        put_byte(aml, value ? ONE_OP : ZERO_OP);
    } else if (value <= UINT8_MAX) {
        put_byte(aml, BYTE_PREFIX);
        put(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        put_byte(aml, WORD_PREFIX);
        put(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        put_byte(aml, DWORD_PREFIX);
        put(aml, value, 4);
    } else {
        put_byte(aml, QWORD_PREFIX);
        put(aml, value, 8);
    }
}

void aml_name_integer(struct aml *aml, const char *name, u64 value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
    /* Three letters of five bits, four hexadecimal digits; big-endian (19.6.36). */
    u32 packed = (u32)(id[0] & 0x1f) << 26 | (u32)(id[1] & 0x1f) << 21 |
                 (u32)(id[2] & 0x1f) << 16 | hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 |
                 hex_digit(id[5]) << 4 | hex_digit(id[6]);
    aml_name(aml, name);
    put_byte(aml, DWORD_PREFIX);
    put(aml, __builtin_bswap32(packed), 4);
}

void aml_name_string(struct aml *aml, const char *name, const char *text)
{
    aml_name(aml, name);
    put_byte(aml, STRING_PREFIX);
    while (*text)
        put_byte(aml, (u8)*text++);
    put_byte(aml, 0);
}

struct aml_resources aml_resources_begin(struct aml *aml, const char *name)
{
    aml_name(aml, name);
    put_byte(aml, BUFFER_OP);
    struct aml_resources resources = {.mark = block_begin(aml)};
    put_byte(aml, WORD_PREFIX);
    resources.size_at = aml->size;
    put(aml, 0, 2);
    return resources;
}

void aml_resources_end(struct aml *aml, struct aml_resources resources)
{
    put_byte(aml, 0x79); /* end tag */
    put_byte(aml, 0);    /* no checksum */
    if (!aml->overflow) {
        size_t size = aml->size - (resources.size_at + 2);
        aml->data[resources.size_at] = (u8)size;
        aml->data[resources.size_at + 1] = (u8)(size >> 8);
    }
    aml_end(aml, resources.mark);
}

void aml_io(struct aml *aml, u16 base, u8 length)
{
    put_byte(aml, 0x47); /* I/O port descriptor (6.4.2.5) */
    put_byte(aml, 1);    /* decodes 16 bits */
    put(aml, base, 2);
    put(aml, base, 2);
    put_byte(aml, 1);
    put_byte(aml, length);
}

void aml_irq(struct aml *aml, unsigned irq)
{
    put_byte(aml, 0x22); /* IRQ descriptor without flags (6.4.2.1) */
    put(aml, 1u << irq, 2);
}

/* Address space descriptors (6.4.3.5): type 0 memory, 1 I/O, 2 bus numbers. */
static void window(struct aml *aml, u8 tag, u8 type, u8 type_flags, u32 first, u32 last)
{
    unsigned width = tag == 0x88 ? 2 : 4;
    put_byte(aml, tag);
    put(aml, 3 + 5 * width, 2);
    put_byte(aml, type);
    put_byte(aml, 0x0c); /* minimum and maximum are fixed, positive decode, producer */
    put_byte(aml, type_flags);
    put(aml, 0, width); /* granularity */
    put(aml, first, width);
    put(aml, last, width);
    put(aml, 0, width); /* translation */
    put(aml, (u64)last - first + 1, width);
}

void aml_window_bus(struct aml *aml, u16 first, u16 last)
{
    window(aml, 0x88, 2, 0, first, last);
}

void aml_window_io(struct aml *aml, u16 first, u16 last)
{
    window(aml, 0x88, 1, 3, first, last); /* the entire range */
}

void aml_window_memory(struct aml *aml, u32 first, u32 last)
{
    window(aml, 0x87, 0, 1, first, last); /* read-write, not cacheable */
}
