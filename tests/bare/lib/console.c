/* Text to COM1, or to the debug console at port 0xe9 where there is no serial port. */
#include "console.h"
#include "cpu.h"

enum {
    COM1 = 0x3f8,
    COM_STATUS = 5,
    THR_EMPTY = 0x20,
    DEBUG_CONSOLE = 0xe9,
    DEBUG_EXIT = 0xf4
};

static void put(char c)
{
    u8 status = inb(COM1 + COM_STATUS);

    if (status == 0xff) {
        outb(DEBUG_CONSOLE, c);
        return;
    }
    while (!(inb(COM1 + COM_STATUS) & THR_EMPTY))
        cpu_relax();
    outb(COM1, c);
}

static void put_number(u64 value, unsigned base, int width, char pad)
{
    char text[24];
    int n = 0;

    do { /* only bases 10 (32-bit values) and 16, so that -m32 needs no 64-bit division */
        unsigned digit = base == 16 ? value & 15 : (u32)value % 10;

        text[n++] = "0123456789abcdef"[digit];
        value = base == 16 ? value >> 4 : (u32)value / 10;
    } while (value);
    while (n < width && n < (int)sizeof(text))
        text[n++] = pad;
    while (n > 0)
        put(text[--n]);
}

static void put_string(const char *s)
{
    while (*s)
        put(*s++);
}

void print(const char *format, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, format);
    for (const char *p = format; *p; p++) {
        int width = 0, longs = 0;
        char pad = ' ';

        if (*p != '%') {
            if (*p == '\n')
                put('\r');
            put(*p);
            continue;
        }
        p++;
        if (*p == '0')
            pad = *p++;
        for (; *p >= '0' && *p <= '9'; p++)
            width = width * 10 + *p - '0';
        for (; *p == 'l'; p++)
            longs++;
        if (*p == 's') {
            put_string(__builtin_va_arg(args, const char *));
        } else if (*p == 'c') {
            put(__builtin_va_arg(args, int));
        } else {
            u64 value = longs == 2   ? __builtin_va_arg(args, u64)
                        : longs == 1 ? __builtin_va_arg(args, ulong)
                                     : __builtin_va_arg(args, u32);

            if (*p == 'd' && (int)value < 0) {
                put('-');
                value = -(int)value;
            }
            put_number(value, *p == 'x' ? 16 : 10, width, pad);
        }
    }
    __builtin_va_end(args);
}

void machine_exit(u8 value)
{
    outb(DEBUG_EXIT, value);
    for (;;)
        asm volatile("cli; hlt");
}
