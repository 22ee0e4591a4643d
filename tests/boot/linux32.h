/* What 32-bit programs for Linux guests need that have no library: system calls, output, and a
 * beginning, which calls start() with the number of arguments. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum { EXIT = 1, FORK = 2, WRITE = 4, WAITPID = 7, SET_THREAD_AREA = 243 };

static inline int call(int number, u32 a, u32 b, u32 c, u32 d)
{
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
                     : "memory");
    return result;
}

/* Line by line. */
static inline void print(const char *text)
{
    static char line[512];
    static u32 n;
    for (; *text; text++) {
        line[n++] = *text;
        if (*text == '\n' || n == sizeof(line)) {
            call(WRITE, 1, (u32)line, n, 0);
            n = 0;
        }
    }
}

static inline void print_number(u32 value, u32 base, u32 digits)
{
    char text[12], *at = text + sizeof(text) - 1;
    *at = 0;
    for (u32 n = 0; value || n < digits; n++, value /= base)
        *--at = "0123456789abcdef"[value % base];
    print(at);
}

struct user_desc { /* as set_thread_area(2) has it */
    u32 entry, base, limit, flags;
};
enum { SEG_32 = 1, CONTENTS_DOWN = 1 << 1, CONTENTS_CODE = 2 << 1, LIMIT_PAGES = 1 << 4 };
enum { USEABLE = 1 << 6 };

void start(u32 arguments);
__asm__(".globl _start\n_start:\n\tmov (%esp), %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\t"
        "push %eax\n\tcall start");
