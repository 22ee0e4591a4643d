/* The listing of a TU in docs/translator.md is what `-d in_asm,out_asm` prints, but for host
 * addresses and numbers of the run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/log.h"
#include "fixture.h"

extern const u8 start_prime[], end_prime[];
__asm__(".pushsection .rodata\n"
        "start_prime:\n"
        "mov $97, %edi; call 1f; hlt; .skip 0x8c - (. - start_prime), 0x90\n"
        "1: mov %edi, %ecx; mov $2, %esi; cmp %ecx, %esi; jge 3f\n"
        "2: mov %ecx, %eax; cltd; idiv %esi; test %edx, %edx; je 4f\n"
        "inc %esi; cmp %ecx, %esi; jl 2b\n"
        "3: mov $1, %eax; ret; 4: xor %eax, %eax; ret\n"
        "end_prime:\n"
        ".popsection\n");

/* The numbers that another run, or another build, has otherwise: host addresses, the fields of
 * the vCPU's block. Guest addresses here are below 2 MiB. */
static bool varies(const char *digits, char **end)
{
    u64 value = strtoull(digits, end, 16);
    return *end - digits >= 8 && (value >= 2 * MiB || digits[-3] == '[');
}

/* The line at `text` with such numbers as `#`; returns the next line, or NULL behind the
 * last. */
static const char *take_line(const char *text, char *line, size_t room)
{
    size_t n = 0;
    while (*text && *text != '\n') {
        char *end;
        ensure(n + 1 < room);
        bool number = text[0] == '0' && text[1] == 'x' && isxdigit(text[2]);
        if (number && varies(text + 2, &end)) {
            line[n++] = '#';
            text = end;
        } else {
            line[n++] = *text++;
        }
    }
    line[n] = 0;
    return *text ? text + 1 : NULL;
}

static char *documented, *printed;

static char *read_all(int fd)
{
    off_t size = lseek(fd, 0, SEEK_END);
    char *text = calloc((size_t)size + 1, 1);
    ensure(size > 0 && text && pread(fd, text, (size_t)size, 0) == size);
    return text;
}

static void print_listing(void)
{
    int fd = memfd_create("listing", 0);
    struct guest *g = guest_create(&bt_engine, 1);
    guest_write(g, CODE, start_prime, (u64)(end_prime - start_prime));
    g->log = (struct log){.mask = 1u << LOG_IN_ASM | 1u << LOG_OUT_ASM, .fd = fd};
    assert_int_equal(guest_run(g), EXIT_HALTED);
    assert_int_equal((u32)g->vcpu->cpu.gpr[RAX], 1);
    guest_destroy(g);
    printed = read_all(fd);
    close(fd);
}

/* Behind the first line, which has the TU's number, mode and size: "tu N at ADDRESS mode M:
 * 14 instructions, 32 bytes to SIZE"; the size is that of the return, too, which is not shown.
 */
static const char *find_listing(const char *text, const char **sizes)
{
    const char *at = strstr(text, "at 000000000010008c mode");
    ensure(at && (at = strchr(at, ':')));
    *sizes = at;
    return strchr(at, '\n') + 1;
}

static void test_as_documented(void **state)
{
    (void)state;
    const char *sizes_documented, *sizes_printed;
    const char *a = find_listing(documented, &sizes_documented);
    print_listing();
    const char *b = find_listing(printed, &sizes_printed);
    assert_memory_equal(sizes_documented, sizes_printed, strlen(": 14 instructions, 32 bytes"));
    unsigned lines = 0;
    while (a && b) {
        char expected[200], found[200];
        a = take_line(a, expected, sizeof(expected));
        if (strstr(expected, "..."))
            break;
        b = take_line(b, found, sizeof(found));
        /* The document's code is indented once more. */
        assert_string_equal(expected + 4, found);
        lines++;
    }
    assert_in_range(lines, 30, 100);
    free(printed);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_documented)};
    FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (!file)
        return 2;
    documented = read_all(fileno(file));
    fclose(file);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(documented);
    return failed;
}
