/* What the compiler may call on its own. */
#include "types.h"

void *memcpy(void *to, const void *from, ulong n);
void *memset(void *to, int value, ulong n);
int memcmp(const void *a, const void *b, ulong n);

void *memcpy(void *to, const void *from, ulong n)
{
    void *start = to;

    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    return start;
}

void *memset(void *to, int value, ulong n)
{
    void *start = to;

    asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
    return start;
}

int memcmp(const void *a, const void *b, ulong n)
{
    const u8 *p = a, *q = b;

    for (; n; n--, p++, q++) {
        if (*p != *q)
            return *p - *q;
    }
    return 0;
}
