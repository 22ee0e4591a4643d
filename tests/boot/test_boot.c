/* The loaders: what a good image leads to, and that each bad field is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot/boot.h"
#include "boot/linux_bios.h"
#include "images.h"
#include "memory/pmap.h"
#include "platform/board.h"
#include "platform/ram.h"

#define COMMAND_LINE "console=ttyS0 quiet"

struct fixture {
    struct board board;
    struct log log;
    struct x86_cpu cpu;
    struct image_buffer image;
    struct boot_module modules[2];
    struct boot_config config;
    struct error err;
};

static void fixture_memory(struct fixture *f, u64 bytes)
{
    if (f->board.pmap)
        pmap_destroy(f->board.pmap);
    f->board.pmap = pmap_create(bytes, &f->err);
    assert_non_null(f->board.pmap);
}

static int setup(void **state)
{
    static struct fixture fixture; /* large; one test at a time */
    struct fixture *f = &fixture;
    memset(f, 0, sizeof(*f));
    f->log.fd = 2;
    board_init(&f->board, &f->log);
    fixture_memory(f, 64 * MiB);
    f->config = (struct boot_config){.board = &f->board,
                                     .kernel.name = "test",
                                     .command_line = COMMAND_LINE,
                                     .modules = f->modules,
                                     .rsdp = 0xe0000};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pmap_destroy(f->board.pmap);
    f->board.pmap = NULL;
    board_destroy(&f->board);
    return 0;
}

static bool load(struct fixture *f)
{
    f->config.kernel.data = f->image.data;
    f->config.kernel.size = f->image.size;
    f->cpu.log = &f->log;
    return boot_load(&f->config, &f->cpu, &f->err);
}

static void assert_loads(struct fixture *f)
{
    if (!load(f))
        fail_msg("%s", f->err.text);
}

static void assert_refused(struct fixture *f, const char *because)
{
    assert_false(load(f));
    if (!strstr(f->err.text, because))
        fail_msg("'%s' does not say '%s'", f->err.text, because);
}

static u64 peek(struct fixture *f, u64 addr, unsigned size)
{
    u64 value = 0;
    assert_true(ram_read(&f->board, gpa(addr), &value, size));
    return value;
}

static void assert_string(struct fixture *f, u64 addr, const char *text)
{
    char buf[256];
    assert_true(ram_read(&f->board, gpa(addr), buf, strlen(text) + 1));
    assert_string_equal(buf, text);
}

static void add_module(struct fixture *f, const void *data, u64 size, const char *line)
{
    f->modules[f->config.n_modules++] = (struct boot_module){
        .image = {.name = "module", .data = data, .size = size}, .command_line = line};
}

/* -- Linux --------------------------------------------------------------------------------- */

static void test_linux_64(void **state)
{
    struct fixture *f = *state;
    u8 initrd[5000];
    memset(initrd, 0xcc, sizeof(initrd));
    image_linux(&f->image);
    add_module(f, initrd, sizeof(initrd), "");
    assert_loads(f);

    assert_true(x86_64bit(&f->cpu));
    assert_int_equal(f->cpu.cpl, 0);
    assert_int_equal(f->cpu.rip, 16 * MiB + 0x200);
    assert_int_equal(f->cpu.rflags & FLAG_IF, 0);
    assert_int_equal(f->cpu.seg[SEG_CS].sel, 0x10);
    assert_int_equal(f->cpu.seg[SEG_DS].sel, 0x18);
    assert_int_equal(peek(f, 16 * MiB, 4), 0x5a5a5a5a);

    u64 zero = f->cpu.gpr[RSI];
    assert_int_equal(peek(f, zero + 0x1fe, 2), 0xaa55);
    assert_int_equal(peek(f, zero + 0x202, 4), 0x53726448);
    assert_int_equal(peek(f, zero + 0x210, 1), 0xff);
    assert_int_equal(peek(f, zero + 0x070, 8), 0xe0000);
    assert_string(f, peek(f, zero + 0x228, 4), COMMAND_LINE);
    u64 at = peek(f, zero + 0x218, 4);
    assert_int_equal(peek(f, zero + 0x21c, 4), sizeof(initrd));
    assert_int_equal(at % PAGE_SIZE, 0);
    assert_true(at >= 20 * MiB && at + sizeof(initrd) <= 64 * MiB);
    assert_int_equal(peek(f, at + 4996, 4), 0xcccccccc);
}

static u32 field_of(const struct linux_bios *bios, unsigned offset, unsigned size)
{
    u32 value = 0;
    memcpy(&value, bios->setup + offset, size);
    return value;
}

/* What firmware gets of a kernel whose set-up code runs in real mode, and whose that is. */
static void test_linux_bios(void **state)
{
    static struct linux_bios bios;
    static const struct linux_bios_keys keys = {{0x18, 0x11, 0x12, 0x15}};
    struct fixture *f = *state;
    u8 initrd[5000] = {0}, sum = 0;
    image_linux(&f->image);
    struct boot_image kernel = {"test", f->image.data, f->image.size};
    struct boot_image disk = {"initrd", initrd, sizeof(initrd)};
    assert_false(linux_bios_wanted(&kernel)); /* it has a 64-bit entry */
    image_put(&f->image, 0x236, 0, 2);
    assert_true(linux_bios_wanted(&kernel)); /* no entry but the BIOS's */
    image_put(&f->image, 0x214, 0x100000, 4);
    assert_false(linux_bios_wanted(&kernel));
    image_put(&f->image, 0x206, 0x203, 2);
    assert_true(linux_bios_wanted(&kernel)); /* from before the 32-bit protocol */

    assert_true(
        linux_bios_prepare(&bios, &kernel, &disk, COMMAND_LINE, 64 * MiB, &keys, &f->err));
    const struct linux_bios_part *parts = bios.parts;
    assert_int_equal(parts[LINUX_KERNEL].addr, MiB);
    assert_int_equal(field_of(&bios, 0x210, 1), 0xff);
    assert_int_equal(field_of(&bios, 0x211, 1), 0x81);
    assert_int_equal(field_of(&bios, 0x218, 4), parts[LINUX_INITRD].addr);
    assert_int_equal(field_of(&bios, 0x21c, 4), sizeof(initrd));
    assert_int_equal(field_of(&bios, 0x228, 4), parts[LINUX_COMMAND].addr);
    assert_in_range(parts[LINUX_INITRD].addr, 60 * MiB, 63 * MiB - sizeof(initrd));
    assert_int_equal(bios.rom[0] | bios.rom[1] << 8, 0xaa55);
    for (unsigned i = 0; i < bios.rom[2] * 512u; i++)
        sum += bios.rom[i];
    assert_int_equal(sum, 0);

    image_put(&f->image, 0x211, 0, 1); /* a zImage */
    assert_true(
        linux_bios_prepare(&bios, &kernel, NULL, COMMAND_LINE, 64 * MiB, &keys, &f->err));
    assert_int_equal(parts[LINUX_SETUP].addr, 0x90000);
    assert_int_equal(parts[LINUX_KERNEL].addr, 0x10000);
    assert_int_equal(parts[LINUX_INITRD].size, 0);
    assert_false(linux_bios_prepare(&bios, &kernel, NULL, COMMAND_LINE, MiB, &keys, &f->err));
    kernel.size = 700; /* within the set-up code */
    assert_false(
        linux_bios_prepare(&bios, &kernel, NULL, COMMAND_LINE, 64 * MiB, &keys, &f->err));
    kernel.size = 0x200;
    assert_false(linux_bios_wanted(&kernel));
}

static void test_linux_page_tables(void **state)
{
    struct fixture *f = *state;
    image_linux(&f->image);
    assert_loads(f);
    for (u64 addr = 0; addr < 4 * GiB; addr += 2 * MiB) {
        u64 pdpt = peek(f, f->cpu.cr3, 8) & ~0xfffull;
        u64 pd = peek(f, pdpt + (addr >> 30) * 8, 8) & ~0xfffull;
        u64 entry = peek(f, pd + (addr >> 21 & 511) * 8, 8);
        assert_int_equal(entry, addr | PTE_P | PTE_W | PTE_PS);
    }
}

static void test_linux_e820(void **state)
{
    struct fixture *f = *state;
    image_linux(&f->image);
    fixture_memory(f, 5 * GiB);
    assert_loads(f);
    u64 zero = f->cpu.gpr[RSI];
    unsigned n = (unsigned)peek(f, zero + 0x1e8, 1);
    u64 ram = 0;
    u64 last_end = 0;
    assert_true(n > 0 && n <= 128);
    for (unsigned i = 0; i < n; i++) {
        u64 entry = zero + 0x2d0 + i * 20;
        u64 addr = peek(f, entry, 8);
        u64 size = peek(f, entry + 8, 8);
        u64 type = peek(f, entry + 16, 4);
        assert_true(addr >= last_end);
        last_end = addr + size;
        assert_true(type == 1 || type == 2);
        if (type == 1)
            ram += size;
    }
    /* All but the hole between 636 KiB and 1 MiB. */
    assert_int_equal(ram, 5 * GiB - (1 * MiB - 0x9fc00));
    assert_int_equal(last_end, 4 * GiB + pmap_above_4g(f->board.pmap));
}

static void test_linux_32(void **state)
{
    struct fixture *f = *state;
    image_linux(&f->image);
    image_put(&f->image, 0x236, 0, 2);
    assert_loads(f);
    assert_int_equal(f->cpu.code_size, 4);
    assert_int_equal(f->cpu.cr0 & CR0_PG, 0);
    assert_int_equal(f->cpu.rip, 16 * MiB);
    assert_int_equal(f->cpu.gpr[RBX] | f->cpu.gpr[RBP] | f->cpu.gpr[RDI], 0);
    assert_int_equal(peek(f, f->cpu.gpr[RSI] + 0x214, 4), 16 * MiB);
}

static void test_linux_moves_when_small(void **state)
{
    struct fixture *f = *state;
    image_linux(&f->image);
    fixture_memory(f, 8 * MiB);
    assert_loads(f);
    assert_int_equal(f->cpu.rip, 2 * MiB + 0x200);
    image_put(&f->image, 0x234, 0, 1); /* not relocatable */
    assert_refused(f, "-m");
}

static void test_linux_initrd_limit(void **state)
{
    struct fixture *f = *state;
    u8 initrd[4096] = {1};
    image_linux(&f->image);
    image_put(&f->image, 0x22c, 32 * MiB - 1, 4);
    add_module(f, initrd, sizeof(initrd), "");
    assert_loads(f);
    assert_int_equal(peek(f, f->cpu.gpr[RSI] + 0x218, 4), 32 * MiB - 4096);
    image_put(&f->image, 0x22c, 20 * MiB, 4); /* one byte behind the kernel's end */
    assert_refused(f, "does not fit");
}

static void test_linux_command_line_limit(void **state)
{
    struct fixture *f = *state;
    char line[64];
    memset(line, 'a', sizeof(line));
    image_linux(&f->image);
    image_put(&f->image, 0x238, 32, 4);
    line[32] = 0;
    f->config.command_line = line;
    assert_loads(f);
    line[32] = 'a';
    line[33] = 0;
    assert_refused(f, "at most 32");
}

static void test_linux_bad_fields(void **state)
{
    static const struct {
        size_t offset;
        u64 value;
        unsigned size;
        const char *because;
    } bad[] = {
        {0x1fe, 0, 2, "no Linux bzImage"},
        {0x202, 0, 4, "no Linux bzImage"},
        {0x206, 0x201, 2, "protocol"},
        {0x211, 0, 1, "zImage"},
        {0x1f1, 200, 1, "truncated"},
        {0x1f4, 0x10000, 4, "truncated"},
        {0x201, 0xff, 1, ""},
        {0x230, 3, 4, "power of two"},
        {0x230, 0, 4, "power of two"},
        {0x260, 0xffffffff, 4, "-m"},
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        image_linux(&f->image);
        image_put(&f->image, bad[i].offset, bad[i].value, bad[i].size);
        if (*bad[i].because)
            assert_refused(f, bad[i].because);
        else
            assert_loads(f);
    }
    image_linux(&f->image);
    f->image.size = 2560;
    assert_refused(f, "truncated");
}

/* -- PVH ----------------------------------------------------------------------------------- */

static void check_pvh(struct fixture *f, bool is_64)
{
    u8 initrd[100] = {7};
    image_pvh(&f->image, is_64);
    f->config.n_modules = 0;
    add_module(f, initrd, sizeof(initrd), "");
    assert_loads(f);
    assert_int_equal(f->cpu.rip, 0x100010);
    assert_int_equal(f->cpu.code_size, 4);
    assert_int_equal(f->cpu.cr0, CR0_PE | CR0_ET);
    assert_int_equal(peek(f, 0x100000, 8), 0xa5a5a5a5a5a5a5a5);
    assert_int_equal(peek(f, 0x1001f8, 8), 0);
    u64 info = f->cpu.gpr[RBX];
    assert_int_equal(peek(f, info, 4), 0x336ec578);
    assert_int_equal(peek(f, info + 4, 4), 1);
    assert_int_equal(peek(f, info + 12, 4), 1);
    u64 module = peek(f, info + 16, 8);
    assert_int_equal(peek(f, peek(f, module, 8), 1), 7);
    assert_int_equal(peek(f, module + 8, 8), sizeof(initrd));
    assert_string(f, peek(f, info + 24, 8), COMMAND_LINE);
    assert_int_equal(peek(f, info + 32, 8), 0xe0000);
    u64 map = peek(f, info + 40, 8);
    assert_int_equal(peek(f, map, 8), 0);
    assert_int_equal(peek(f, map + 16, 4), 1);
}

static void test_pvh(void **state)
{
    check_pvh(*state, true);
    check_pvh(*state, false);
}

static void test_pvh_bad(void **state)
{
    struct fixture *f = *state;
    image_pvh(&f->image, true);
    image_put(&f->image, 0x408, 17, 4); /* another note */
    assert_refused(f, "PVH entry note");
    image_pvh(&f->image, true);
    image_put(&f->image, 18, 183, 2); /* AArch64 */
    assert_refused(f, "another processor");
    image_pvh(&f->image, true);
    image_put(&f->image, 56, 0, 2);
    assert_refused(f, "program headers");
    image_pvh(&f->image, true);
    image_put(&f->image, 32, UINT64_MAX - 8, 8); /* e_phoff */
    assert_refused(f, "truncated");
    image_pvh(&f->image, true);
    image_put(&f->image, 64 + 32, UINT64_MAX, 8); /* p_filesz */
    assert_refused(f, "larger in the file");
    image_pvh(&f->image, true);
    image_put(&f->image, 64 + 40, UINT64_MAX, 8); /* p_memsz */
    assert_refused(f, "-m");
    image_pvh(&f->image, true);
    image_put(&f->image, 64 + 8, UINT64_MAX - 1, 8); /* p_offset */
    assert_refused(f, "truncated");
    image_pvh(&f->image, true);
    image_put(&f->image, 64 + 24, 0x1000, 8); /* p_paddr */
    assert_refused(f, "boot data");
    image_pvh(&f->image, true);
    image_put(&f->image, 64 + 24, UINT64_MAX - 0x1f, 8);
    assert_refused(f, "does not fit");
    image_pvh(&f->image, true);
    f->image.size = 40;
    assert_refused(f, "truncated");
}

/* -- Multiboot ----------------------------------------------------------------------------- */

static void test_multiboot_elf(void **state)
{
    struct fixture *f = *state;
    static const u8 first[3] = {1, 2, 3};
    static const u8 second[5000] = {9};
    image_multiboot_elf(&f->image);
    add_module(f, first, sizeof(first), "first module");
    add_module(f, second, sizeof(second), "second");
    assert_loads(f);
    assert_int_equal(f->cpu.gpr[RAX], 0x2badb002);
    assert_int_equal(f->cpu.rip, 0x100010);
    u64 info = f->cpu.gpr[RBX];
    assert_int_equal(peek(f, info, 4), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_int_equal(peek(f, info + 4, 4), 639);
    assert_int_equal(peek(f, info + 8, 4), 63 * 1024);
    assert_string(f, peek(f, info + 16, 4), "test " COMMAND_LINE);
    assert_int_equal(peek(f, info + 20, 4), 2);
    u64 modules = peek(f, info + 24, 4);
    u64 start = peek(f, modules, 4);
    assert_int_equal(peek(f, modules + 4, 4), start + 3);
    assert_int_equal(peek(f, start, 3), 0x030201);
    assert_string(f, peek(f, modules + 8, 4), "first module");
    start = peek(f, modules + 16, 4);
    assert_int_equal(start % PAGE_SIZE, 0);
    assert_int_equal(peek(f, start, 1), 9);
    assert_string(f, peek(f, modules + 24, 4), "second");
    assert_string(f, peek(f, info + 64, 4), "Doppel");
    /* The memory map ends where its length says. */
    u64 map = peek(f, info + 48, 4);
    u64 end = map + peek(f, info + 44, 4);
    u64 ram = 0;
    for (; map < end; map += peek(f, map, 4) + 4)
        if (peek(f, map + 20, 4) == 1)
            ram += peek(f, map + 12, 8);
    assert_int_equal(map, end);
    assert_int_equal(ram, 64 * MiB - (1 * MiB - 0x9fc00));
}

/* Moves the one segment of image_multiboot_elf(). */
static void move_segment(struct fixture *f, u32 offset, u32 to, u32 size)
{
    enum { PH = 64 };
    image_put(&f->image, PH + 4, offset, 4);
    image_put(&f->image, PH + 8, to, 4);
    image_put(&f->image, PH + 12, to, 4);
    image_put(&f->image, PH + 16, size, 4);
    image_put(&f->image, PH + 20, size, 4);
}

/* What we pass leaves a kernel in low memory alone, wherever that lies. */
static void test_multiboot_low(void **state)
{
    static const struct {
        u32 start, size;
    } at[] = {{0x500, 0x180}, {0x4000, 0x1010}, {0x8000, 0x14000}, {0x1000, 0x9e000}};
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        image_multiboot_elf(&f->image);
        move_segment(f, 0x1000, at[i].start, 0x100);
        image_put(&f->image, 64 + 20, at[i].size, 4);
        assert_loads(f);
        u64 end = at[i].start + at[i].size;
        u64 parts[] = {f->cpu.gpr[RBX], f->cpu.gdtr.base, peek(f, f->cpu.gpr[RBX] + 16, 4),
                       peek(f, f->cpu.gpr[RBX] + 48, 4), peek(f, f->cpu.gpr[RBX] + 64, 4)};
        for (unsigned k = 0; k < ARRAY_LEN(parts); k++)
            assert_true(parts[k] >= end || parts[k] + 0x100 <= at[i].start);
        assert_int_equal(peek(f, at[i].start, 4), 0x1badb002);
        assert_int_equal(peek(f, end - 4, 4), 0);
        assert_string(f, peek(f, f->cpu.gpr[RBX] + 16, 4), "test " COMMAND_LINE);
    }
}

/* The file's headers in front of 1 MiB, as linkers put them, are left out; not what is more. */
static void test_multiboot_headers(void **state)
{
    struct fixture *f = *state;
    image_multiboot_elf(&f->image);
    move_segment(f, 0, 0xff000, 0x1100);
    assert_loads(f);
    assert_int_equal(peek(f, 0x100000, 4), 0x1badb002);
    image_put(&f->image, 0x800, 1, 1);
    assert_refused(f, "hole below 1 MiB");
}

static void test_multiboot_raw(void **state)
{
    struct fixture *f = *state;
    image_multiboot_raw(&f->image);
    assert_loads(f);
    assert_int_equal(f->cpu.rip, 0x200040);
    assert_int_equal(peek(f, 0x200000, 4), 0x77777777);
    assert_int_equal(peek(f, 0x2003fc, 4), 0x77777777);
    assert_int_equal(peek(f, 0x200400, 4), 0);
}

static void test_multiboot_bad(void **state)
{
    static const struct {
        size_t offset;
        u32 value;
        const char *because;
    } bad[] = {
        {0x3c, 0x100000, "cannot be"},  /* header below the load address */
        {0x3c, 0x200100, "cannot be"},  /* further in than the file has bytes */
        {0x44, 0x100000, "before its"}, /* load end before start */
        {0x48, 0x200200, "before its"}, /* bss ends inside the data */
        {0x44, 0x300000, ""},           {0x48, 0xf0000000, "-m"},
    };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        image_multiboot_raw(&f->image);
        image_put(&f->image, bad[i].offset, bad[i].value, 4);
        assert_refused(f, bad[i].because);
    }
    image_multiboot_elf(&f->image);
    image_put(&f->image, 0x1004, 3 | 1 << 4, 4); /* an unknown requirement */
    image_put(&f->image, 0x1008, -(0x1badb002 + (3 | 1 << 4)), 4);
    assert_refused(f, "unknown multiboot");
}

static void test_nothing(void **state)
{
    struct fixture *f = *state;
    f->image.size = 0;
    assert_refused(f, "no Linux bzImage");
    memset(f->image.data, 'x', sizeof(f->image.data));
    f->image.size = sizeof(f->image.data);
    assert_refused(f, "no Linux bzImage");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_linux_64),
        CASE(test_linux_bios),
        CASE(test_linux_page_tables),
        CASE(test_linux_e820),
        CASE(test_linux_32),
        CASE(test_linux_moves_when_small),
        CASE(test_linux_initrd_limit),
        CASE(test_linux_command_line_limit),
        CASE(test_linux_bad_fields),
        CASE(test_pvh),
        CASE(test_pvh_bad),
        CASE(test_multiboot_elf),
        CASE(test_multiboot_low),
        CASE(test_multiboot_headers),
        CASE(test_multiboot_raw),
        CASE(test_multiboot_bad),
        CASE(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
