/* The floppy controller and the DMA controllers that it uses. */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#define MEMORY 0x31000u
#define MS     1000000ull

enum { DOR = 0x3f2, MSR = 0x3f4, FIFO = 0x3f5, DIR = 0x3f7 };

struct fdc_test {
    struct fixture *f;
    struct fdc *fdc;
    struct fake_disk disk;
};

static int setup(void **state)
{
    struct fdc_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(0);
    fixture_add_ram(t->f, 2 * MiB);
    fake_disk_init(&t->disk, 1440 * KiB);
    for (unsigned i = 0; i < 1440 * KiB / 4; i++)
        ((u32 *)t->disk.data)[i] = i;
    struct block *const disks[FDC_DRIVES] = {&t->disk.block};
    t->fdc =
        fdc_create(&t->f->board, isa_dma_create(&t->f->board), fixture_line(t->f, 6), disks);
    out8(t->f, DOR, 0x1c); /* out of reset, interrupt and DMA on, motor A: */
    fixture_step(t->f, 2 * MS);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct fdc_test *t = *state;
    fixture_destroy(t->f);
    fake_disk_destroy(&t->disk);
    test_free(t);
    return 0;
}

static void command(struct fdc_test *t, const u8 *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(in8(t->f, MSR) & 0xd0, i ? 0x90 : 0x80);
        out8(t->f, FIFO, bytes[i]);
    }
}
#define COMMAND(t, ...) command(t, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void result(struct fdc_test *t, const u8 *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(in8(t->f, MSR) & 0xd0, 0xd0);
        assert_int_equal(in8(t->f, FIFO), bytes[i]);
    }
    assert_int_equal(in8(t->f, MSR) & 0xd0, 0x80);
}
#define RESULT(t, ...) result(t, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* The interrupt after a reset, four times. */
static void take_reset(struct fdc_test *t)
{
    assert_true(t->f->level[6]);
    for (u8 i = 0; i < 4; i++) {
        COMMAND(t, 0x08);
        RESULT(t, 0xc0 | i, 0);
    }
    assert_false(t->f->level[6]);
    COMMAND(t, 0x08);
    RESULT(t, 0x80);
}

static void seek(struct fdc_test *t, u8 cylinder)
{
    COMMAND(t, 0x0f, 0x00, cylinder);
    fixture_step(t->f, 2 * MS);
    assert_true(t->f->level[6]);
    COMMAND(t, 0x08);
    RESULT(t, 0x20, cylinder);
    assert_false(t->f->level[6]);
}

/* Channel 2, `mode` 46h to memory or 4Ah from it. */
static void dma(struct fdc_test *t, u8 mode, u32 addr, u16 bytes)
{
    out8(t->f, 0x0a, 0x06);
    out8(t->f, 0x0c, 0);
    out8(t->f, 0x0b, mode);
    out8(t->f, 0x04, (u8)addr);
    out8(t->f, 0x04, (u8)(addr >> 8));
    out8(t->f, 0x81, (u8)(addr >> 16));
    out8(t->f, 0x05, (u8)(bytes - 1));
    out8(t->f, 0x05, (u8)((bytes - 1) >> 8));
    out8(t->f, 0x0a, 0x02);
}

static u32 memory(struct fdc_test *t, u32 addr)
{
    u32 word;
    ram_read(&t->f->board, gpa(addr), &word, 4);
    return word;
}

static void test_reset(void **state)
{
    struct fdc_test *t = *state;
    take_reset(t);
    out8(t->f, DOR, 0x18);
    assert_int_equal(in8(t->f, MSR), 0);
    out8(t->f, DOR, 0x1c);
    fixture_step(t->f, 2 * MS);
    take_reset(t);
    out8(t->f, MSR, 0x80); /* by the data rate select register */
    fixture_step(t->f, 2 * MS);
    take_reset(t);
    COMMAND(t, 0x10);
    RESULT(t, 0x90);
    COMMAND(t, 0x3e);
    RESULT(t, 0x80);
}

static void test_change_line(void **state)
{
    struct fdc_test *t = *state;
    take_reset(t);
    assert_int_equal(in8(t->f, DIR), 0x80);
    seek(t, 1);
    assert_int_equal(in8(t->f, DIR), 0x00);
    COMMAND(t, 0x07, 0x00); /* RECALIBRATE */
    assert_int_equal(in8(t->f, MSR) & 1, 1);
    fixture_step(t->f, 2 * MS);
    COMMAND(t, 0x08);
    RESULT(t, 0x20, 0);
    COMMAND(t, 0x04, 0x00);
    RESULT(t, 0x38);
    out8(t->f, DOR, 0x2d); /* the drive that is not there */
    assert_int_equal(in8(t->f, DIR), 0x80);
}

static void test_read(void **state)
{
    struct fdc_test *t = *state;
    take_reset(t);
    seek(t, 3);
    dma(t, 0x46, MEMORY, 1024);
    COMMAND(t, 0xe6, 0x04, 3, 1, 17, 2, 18, 0x1b, 0xff); /* head 1, sectors 17 and 18 */
    assert_true(t->f->level[6]);
    RESULT(t, 0x00, 0, 0, 4, 0, 1, 2);
    assert_false(t->f->level[6]);
    u32 first = ((3 * 2 + 1) * 18 + 16) * 128;
    assert_int_equal(memory(t, MEMORY), first);
    assert_int_equal(memory(t, MEMORY + 1020), first + 255);
    assert_int_equal(in8(t->f, 0x08) & 0x0f, 4); /* terminal count of channel 2 */
    assert_int_equal(in8(t->f, 0x0f) & 0x0f, 0x0f);
    /* Over to the other head, in the middle of the count. */
    dma(t, 0x46, MEMORY, 4 * 512);
    COMMAND(t, 0xe6, 0x00, 3, 0, 17, 2, 18, 0x1b, 0xff);
    RESULT(t, 0x04, 0, 0, 3, 1, 3, 2);
    assert_int_equal(memory(t, MEMORY + 1024), (3 * 2 + 1) * 18 * 128);
    /* Without the other head the end comes first. */
    dma(t, 0x46, MEMORY, 4 * 512);
    COMMAND(t, 0x66, 0x00, 3, 0, 17, 2, 18, 0x1b, 0xff);
    RESULT(t, 0x40, 0x80, 0, 4, 0, 1, 2);
    COMMAND(t, 0x4a, 0x04);
    RESULT(t, 0x04, 0, 0, 3, 1, 1, 2);
}

static void test_write(void **state)
{
    struct fdc_test *t = *state;
    u32 words[256];
    take_reset(t);
    for (unsigned i = 0; i < 256; i++)
        words[i] = ~i;
    ram_write(&t->f->board, gpa(MEMORY), words, sizeof(words));
    dma(t, 0x4a, MEMORY, 700); /* the rest of the second sector is zeroes */
    t->disk.slow = true;
    COMMAND(t, 0xc5, 0x00, 0, 0, 5, 2, 18, 0x1b, 0xff);
    assert_int_equal(in8(t->f, MSR) & 0x90, 0x10);
    for (unsigned i = 0; i < 2; i++) {
        board_lock(&t->f->board);
        fake_disk_answer(&t->disk);
        board_unlock(&t->f->board);
    }
    RESULT(t, 0, 0, 0, 0, 0, 7, 2);
    assert_memory_equal(t->disk.data + 4 * 512, words, 700);
    assert_int_equal(((u32 *)t->disk.data)[4 * 128 + 175], 0);
    t->disk.slow = false;
    /* Formatting: four bytes for each sector. */
    const u8 ids[] = {0, 1, 1, 2, 0, 1, 2, 2};
    ram_write(&t->f->board, gpa(MEMORY), ids, sizeof(ids));
    dma(t, 0x4a, MEMORY, sizeof(ids));
    COMMAND(t, 0x4d, 0x04, 2, 2, 0x54, 0xf6);
    RESULT(t, 0x04, 0, 0, 0, 1, 2, 2);
    assert_int_equal(((u32 *)t->disk.data)[18 * 128], 0xf6f6f6f6);
    assert_int_equal(((u32 *)t->disk.data)[20 * 128 - 1], 0xf6f6f6f6);
    assert_int_equal(((u32 *)t->disk.data)[20 * 128], 20 * 128);
}

static void test_errors(void **state)
{
    struct fdc_test *t = *state;
    take_reset(t);
    dma(t, 0x46, MEMORY, 512);
    COMMAND(t, 0xe6, 0x00, 5, 0, 1, 2, 18, 0x1b, 0xff); /* without a seek */
    RESULT(t, 0x40, 0x04, 0x10, 5, 0, 1, 2);
    COMMAND(t, 0xe6, 0x00, 0, 0, 19, 2, 18, 0x1b, 0xff);
    RESULT(t, 0x40, 0x04, 0, 0, 0, 19, 2);
    COMMAND(t, 0xe6, 0x01, 0, 0, 1, 2, 18, 0x1b, 0xff); /* no drive */
    RESULT(t, 0x41, 0x01, 0, 0, 0, 1, 2);
    out8(t->f, 0x0a, 0x06); /* DMA masked */
    COMMAND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    RESULT(t, 0x40, 0x10, 0, 0, 0, 1, 2);
    dma(t, 0x46, MEMORY, 512);
    t->disk.error = EIO;
    COMMAND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    RESULT(t, 0x40, 0x20, 0x20, 0, 0, 1, 2);
    t->disk.block.read_only = true;
    COMMAND(t, 0xc5, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    RESULT(t, 0x40, 0x02, 0, 0, 0, 1, 2);
}

/* Without DMA each byte goes through the FIFO. */
static void test_fifo(void **state)
{
    struct fdc_test *t = *state;
    take_reset(t);
    COMMAND(t, 0x03, 0xaf, 0x03);
    COMMAND(t, 0x46, 0x00, 0, 0, 18, 2, 18, 0x1b, 0xff);
    unsigned rises = t->f->rises[6]; /* the first byte's is among them */
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(t->f, MSR), 0xf0);
        assert_true(t->f->level[6]);
        assert_int_equal(in8(t->f, FIFO), t->disk.data[17 * 512 + i]);
    }
    assert_int_equal(t->f->rises[6] - rises, 512); /* the last is the result's */
    RESULT(t, 0x40, 0x80, 0, 1, 0, 1, 2);          /* nothing says that it is enough */
    assert_false(t->f->level[6]);
    COMMAND(t, 0x45, 0x00, 0, 0, 1, 2, 1, 0x1b, 0xff); /* WRITE DATA */
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(in8(t->f, MSR), 0xb0);
        assert_true(t->f->level[6]);
        out8(t->f, FIFO, (u8)(i ^ 0x5a));
    }
    RESULT(t, 0x40, 0x80, 0, 1, 0, 1, 2);
    assert_int_equal(t->disk.data[7], 7 ^ 0x5a);
}

/* A machine that is reset in the middle. */
static void test_state(void **state)
{
    struct fdc_test *t = *state;
    take_reset(t);
    t->disk.slow = true;
    dma(t, 0x46, MEMORY, 512);
    COMMAND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff);
    board_lock(&t->f->board);
    devices_reset(&t->f->board);
    board_unlock(&t->f->board);
    assert_null(t->disk.waiting);
    assert_false(t->f->level[6]);
    assert_int_equal(in8(t->f, MSR), 0);
}

static void test_exchange(void **state)
{
    struct fdc_test *t = *state;
    struct tray *door = fdc_tray(t->fdc, 0);
    take_reset(t);
    seek(t, 1);
    assert_int_equal(in8(t->f, DIR), 0x00);
    door->move(door->drive, true);
    t->disk.block.size = 0;
    door->exchanged(door->drive);
    seek(t, 0);
    assert_int_equal(in8(t->f, DIR), 0x80);
    COMMAND(t, 0xe6, 0x00, 0, 0, 1, 2, 18, 0x1b, 0xff); /* no disk */
    RESULT(t, 0x40, 0x01, 0, 0, 0, 1, 2);
    for (u8 drive = 0; drive < 4; drive++) { /* no address mark to read, of any drive */
        COMMAND(t, 0x4a, drive);
        RESULT(t, 0x40 | drive, 0x01, 0, 0, 0, 1, 2);
    }
    t->disk.block.size = 720 * KiB;
    door->exchanged(door->drive);
    door->move(door->drive, false);
    assert_int_equal(in8(t->f, DIR), 0x80);
    seek(t, 0); /* no step pulse: the heads are there */
    assert_int_equal(in8(t->f, DIR), 0x80);
    seek(t, 1);
    assert_int_equal(in8(t->f, DIR), 0x00);
    seek(t, 0);
    dma(t, 0x46, MEMORY, 512);
    COMMAND(t, 0xe6, 0x00, 0, 0, 10, 2, 18, 0x1b, 0xff); /* a sector that the new disk lacks */
    RESULT(t, 0x40, 0x04, 0, 0, 0, 10, 2);
    /* Taken out by force while the controller waits for memory of the host. */
    out8(t->f, 0x0a, 0x06);
    COMMAND(t, 0x03, 0xaf, 0x03);
    COMMAND(t, 0x46, 0x00, 0, 0, 1, 2, 9, 0x1b, 0xff);
    door->move(door->drive, true);
    RESULT(t, 0x40, 0x01, 0, 0, 0, 1, 2);
}

static void test_drive_types(void **state)
{
    (void)state;
    assert_int_equal(fdc_drive_type(0), 4);
    assert_int_equal(fdc_drive_type(360 * KiB), 1);
    assert_int_equal(fdc_drive_type(2880 * KiB), 5);
    /* Boot sectors alone, and images with something behind: what reads them is a usual
     * drive. */
    assert_int_equal(fdc_drive_type(512), 4);
    assert_int_equal(fdc_drive_type(1444 * KiB), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drive_types),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_change_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fifo, setup, teardown),
        cmocka_unit_test_setup_teardown(test_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exchange, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
