/*
 * A 32-bit program for guests, freestanding so that no 32-bit library is needed: computes, uses
 * the string instructions, a thread pointer in GS, x87, and segments of its own in the LDT
 * (with base and limit, expanding down, 16-bit code). Prints a line `NAME CHECKSUM` for each
 * part, the same on every machine. With an argument each part runs 100 times, and its line says
 * how many microseconds the quickest took.
 */
#include "linux32.h"

enum { CLONE = 120, MODIFY_LDT = 123, YIELD = 158, CLOCK_GETTIME = 265, SIGSEGV = 11 };
enum { MEMORY_AND_TLS = 0x80f11 }; /* CLONE_*, and SIGCHLD at the end */

static u32 microseconds(void)
{
    struct {
        u32 s, ns;
    } now;
    call(CLOCK_GETTIME, 1, (u32)&now, 0, 0);
    return now.s * 1000000 + now.ns / 1000;
}

static u32 random_state = 12345;

static u32 next_random(void)
{
    random_state = random_state * 1664525 + 1013904223;
    return random_state ^ random_state >> 15;
}

/* -- Computing ----------------------------------------------------------------------------- */

#define NUMBERS 40000
static u32 numbers[NUMBERS];

static void sort(u32 *from, u32 *to)
{
    while (from < to) {
        u32 pivot = from[(to - from) / 2], *low = from, *high = to;
        while (low <= high) {
            while (*low < pivot)
                low++;
            while (*high > pivot)
                high--;
            if (low <= high) {
                u32 other = *low;
                *low++ = *high;
                *high-- = other;
            }
        }
        sort(from, high);
        from = low;
    }
}

static u32 quicksort(void)
{
    u32 sum = 0;
    for (u32 i = 0; i < NUMBERS; i++)
        numbers[i] = next_random();
    sort(numbers, numbers + NUMBERS - 1);
    for (u32 i = 0; i < NUMBERS; i++)
        sum = sum * 31 + numbers[i];
    return sum;
}

/* A machine of one accumulator: its program counts down and mixes. */
static u32 interpreter(void)
{
    static const u8 program[] = {0, 1, 2, 3, 1, 4, 5};
    u32 accumulator = 1, count = 300000, at = 0;
    while (1) {
        switch (program[at++]) {
        case 0:
            accumulator += count;
            break;
        case 1:
            accumulator ^= accumulator << 7;
            break;
        case 2:
            accumulator = accumulator >> 3 | accumulator << 29;
            break;
        case 3:
            accumulator -= 0x1234567;
            break;
        case 4:
            at = --count ? 0 : at;
            break;
        default:
            return accumulator;
        }
    }
}

static u32 wide(void)
{
    u64 x = 88172645463325252ull, sum = 0;
    for (u32 i = 0; i < 400000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += x * 2685821657736338717ull;
    }
    return (u32)(sum ^ sum >> 32);
}

#define SIDE 48
static double left[SIDE][SIDE], right[SIDE][SIDE];

static u32 matrix(void)
{
    double sum = 0;
    for (u32 i = 0; i < SIDE; i++) {
        for (u32 k = 0; k < SIDE; k++) {
            left[i][k] = (int)(i * k % 7);
            right[i][k] = (int)(i + k);
        }
    }
    for (u32 times = 0; times < 8; times++) {
        for (u32 i = 0; i < SIDE; i++) {
            for (u32 j = 0; j < SIDE; j++) {
                for (u32 k = 0; k < SIDE; k++)
                    sum += left[i][k] * right[k][j];
            }
        }
    }
    return (u32)(int)(sum / 1024);
}

static char text[4096], copy[4096];

static u32 strings(void)
{
    u32 sum = 0;
    for (u32 times = 0; times < 400; times++) {
        u32 n = 100 + next_random() % 3000, length, same;
        void *to = text;
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"('a' + times % 20) : "memory");
        __asm__ volatile("stosb" : "+D"(to) : "a"(0) : "memory");
        const char *from = text;
        to = copy;
        __asm__ volatile("1: lodsb; stosb; test %%al, %%al; jnz 1b"
                         : "+S"(from), "+D"(to)
                         :
                         : "eax", "memory", "cc");
        to = copy;
        length = ~0u;
        __asm__ volatile("repne scasb" : "+D"(to), "+c"(length) : "a"(0) : "memory", "cc");
        from = text;
        to = copy;
        n = ~length;
        __asm__ volatile("repe cmpsb; sete %b0"
                         : "=q"(same), "+S"(from), "+D"(to), "+c"(n)
                         :
                         : "memory", "cc");
        sum = sum * 33 + ~length + (same & 1);
    }
    return sum;
}

/* -- Segments ------------------------------------------------------------------------------ */

static u32 thread_block[64];

static struct user_desc thread_segment = {~0u, 0, 0xfffff, SEG_32 | LIMIT_PAGES | USEABLE};

static void set_thread_pointer(u32 *block)
{
    thread_segment.base = (u32)(block + 32);
    call(SET_THREAD_AREA, (u32)&thread_segment, 0, 0, 0);
    __asm__ volatile("mov %0, %%gs" : : "r"(thread_segment.entry << 3 | 3));
}

/* What C programs do for each thread-local variable, errno among them. */
static u32 thread_pointer(void)
{
    u32 sum = 0;
    set_thread_pointer(thread_block);
    for (u32 i = 0; i < 500000; i++) {
        u32 value;
        __asm__ volatile("addl %1, %%gs:-8\n\tmov %%gs:-8, %0\n\tmov %0, %%gs:4"
                         : "=&r"(value)
                         : "r"(i)
                         : "memory");
        sum += value ^ thread_block[33];
    }
    return sum + thread_block[30];
}

/* Two threads that take turns all the time, with a thread pointer each. */
static u32 blocks[2][64];

static void count_in_block(u32 seed)
{
    for (u32 i = 0; i < 40000; i++) {
        __asm__ volatile("addl %0, %%gs:-8\n\troll $3, %%gs:-8" : : "r"(i ^ seed) : "memory");
        if (i % 64 == 0)
            call(YIELD, 0, 0, 0, 0);
    }
}

static void other_thread(void)
{
    count_in_block(5);
}

static int start_thread(u32 *stack_end, struct user_desc *segment)
{
    int result;
    *--stack_end = (u32)other_thread;
    __asm__ volatile("int $0x80\n\ttest %%eax, %%eax\n\tjnz 1f\n\t"
                     "pop %%eax\n\tcall *%%eax\n\t"
                     "mov $1, %%eax\n\txor %%ebx, %%ebx\n\tint $0x80\n"
                     "1:"
                     : "=a"(result)
                     : "a"(CLONE), "b"(MEMORY_AND_TLS), "c"(stack_end), "d"(0), "S"(segment),
                       "D"(0)
                     : "memory");
    return result;
}

static u32 threads(void)
{
    static u32 stack[1024];
    struct user_desc other = thread_segment;
    u32 status;
    blocks[0][30] = blocks[1][30] = 0;
    set_thread_pointer(blocks[0]);
    other.entry = thread_segment.entry;
    other.base = (u32)(blocks[1] + 32);
    int thread = start_thread(stack + 1024, &other);
    count_in_block(9);
    call(WAITPID, (u32)thread, (u32)&status, 0, 0);
    return blocks[0][30] + 3 * blocks[1][30];
}

/* 0: this kernel has no such segments (16-bit ones are an option). */
static u32 set_ldt(u32 entry, u32 base, u32 limit, u32 flags)
{
    struct user_desc desc = {entry, base, limit, flags | USEABLE};
    return call(MODIFY_LDT, 0x11, (u32)&desc, sizeof(desc), 0) ? 0 : entry << 3 | 7;
}

static u32 load_through(u32 selector, u32 offset)
{
    u32 value;
    __asm__ volatile("mov %1, %%fs\n\tmov %%fs:(%2), %0"
                     : "=r"(value)
                     : "r"(selector), "r"(offset));
    return value;
}

/* The signal that ends a child which loads from there; 0: none. */
static u32 load_fault(u32 selector, u32 offset)
{
    int child = call(FORK, 0, 0, 0, 0), status = 0;
    if (!child) {
        load_through(selector, offset);
        call(EXIT, 0, 0, 0, 0);
    }
    call(WAITPID, (u32)child, (u32)&status, 0, 0);
    return (u32)status & 0x7f;
}

static u32 segments(void)
{
    u32 up = set_ldt(1, (u32)numbers, 0xfff, SEG_32);
    u32 down = set_ldt(2, (u32)numbers, 0xfff, SEG_32 | CONTENTS_DOWN);
    u32 sum = 0;
    for (u32 i = 0; i < 20000; i++)
        sum = sum * 5 + load_through(i & 1 ? up : down, (i & 1 ? 0 : 0x1000) + i % 1000 * 4);
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
    return sum + load_fault(up, 0xffc) + 3 * load_fault(up, 0xffd) +
           5 * load_fault(up, 0x1000) + 7 * load_fault(down, 0x1000) +
           11 * load_fault(down, 0xffc) + 13 * load_fault(down, 0xfff);
}

/* 16-bit code, called by a far pointer; it ends with a far return of the 32-bit kind. Counts CX
 * down, in place of which 64-bit code has nothing. */
extern const u8 code16[], code16_end[];
__asm__(".code16\ncode16:\n\tpush %bp\n\tmov %sp, %bp\n\txor %ax, %ax\n1:\tadd %cx, %ax\n\t"
        "rol $3, %ax\n\tinc %dx\n\tloop 1b\n\tadd %dx, %ax\n\tpop %bp\n\tlretl\ncode16_end:\n"
        ".code32");

static u32 small_code(void)
{
    struct __attribute__((packed)) {
        u32 offset;
        u16 selector;
    } target = {0, (u16)set_ldt(3, (u32)code16, (u32)(code16_end - code16) - 1, CONTENTS_CODE)};
    u32 sum = 0;
    if (!target.selector)
        return 0;
    for (u32 i = 1; i < 3000; i++) {
        u32 result = 0, count = i % 100 + 1, steps = i;
        __asm__ volatile("lcall *%3"
                         : "+a"(result), "+c"(count), "+d"(steps)
                         : "m"(target)
                         : "memory", "cc");
        sum = sum * 7 + (result & 0xffff) + (steps & 0xffff);
    }
    return sum;
}

/* -- All ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    u32 (*run)(void);
} parts[] = {
    {"quicksort", quicksort},
    {"interpreter", interpreter},
    {"wide", wide},
    {"matrix", matrix},
    {"strings", strings},
    {"segments", segments},
    {"thread_pointer", thread_pointer},
    {"threads", threads},
    {"small_code", small_code},
};

void start(u32 arguments)
{
    for (u32 i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        u32 sum = 0, least = ~0u;
        for (u32 times = 0; times < (arguments > 1 ? 100 : 1); times++) {
            u32 before = microseconds();
            sum += parts[i].run();
            u32 took = microseconds() - before;
            least = took < least ? took : least;
        }
        print("part ");
        print(parts[i].name);
        print(" ");
        print_number(sum, 16, 8);
        if (arguments > 1) {
            print(" ");
            print_number(least, 10, 1);
            print(" us");
        }
        print("\n");
    }
    print("program32 done\n");
    call(EXIT, 0, 0, 0, 0);
}
