/* The IDE controller: a disk as master, a CD-ROM drive as slave, by PIO and by DMA. */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#define DISK_SECTORS 4096u
#define CD_BLOCKS    100u
#define PRDT         0x9000u
#define MEMORY       0x20000u

enum { DATA = 0x1f0, ERROR, COUNT, LOW, MID, HIGH, SELECT, STATUS, CONTROL = 0x3f6 };
enum { ERR = 0x01, DRQ = 0x08, DSC = 0x10, DRDY = 0x40, BSY = 0x80 };
enum { MASTER = 0xe0, SLAVE = 0xf0 };

struct ide_test {
    struct fixture *f;
    struct pci_host *pci;
    struct ide *ide;
    struct fake_disk disk, cd;
    u16 bm;
};

static int setup(void **state)
{
    struct ide_test *t = test_calloc(1, sizeof(*t));
    t->f = fixture_create(1);
    fixture_add_ram(t->f, 2 * MiB);
    fake_disk_init(&t->disk, DISK_SECTORS * 512);
    fake_disk_init(&t->cd, CD_BLOCKS * 2048);
    for (unsigned i = 0; i < DISK_SECTORS * 128; i++)
        ((u32 *)t->disk.data)[i] = i;
    for (unsigned i = 0; i < CD_BLOCKS * 512; i++)
        ((u32 *)t->cd.data)[i] = ~i;
    t->pci = pci_host_create(&t->f->board, NULL, NULL);
    const struct irq_line irq[] = {fixture_line(t->f, 14), fixture_line(t->f, 15)};
    const struct ide_drive_config drives[IDE_CHANNELS][IDE_DRIVES] = {
        {{.block = &t->disk.block, .writeback = true, .serial = "serial 1"},
         {.cdrom = true, .block = &t->cd.block}}};
    t->ide = ide_create(&t->f->board, t->pci, irq, drives);
    pci_host_assign(t->pci);
    u32 config = 0x80000000 | PCI_ISA_SLOT << 11 | 1 << 8;
    out32(t->f, 0xcf8, config | 0x20);
    t->bm = in32(t->f, 0xcfc) & 0xfff0;
    out32(t->f, 0xcf8, config | 4);
    out16(t->f, 0xcfc, 5); /* I/O, bus master */
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct ide_test *t = *state;
    fixture_destroy(t->f);
    fake_disk_destroy(&t->disk);
    fake_disk_destroy(&t->cd);
    test_free(t);
    return 0;
}

static u8 status(struct ide_test *t)
{
    return in8(t->f, CONTROL);
}

/* The interrupt is there, and reading the status takes it. */
static void expect_irq(struct ide_test *t, u8 expected)
{
    assert_true(t->f->level[14]);
    assert_int_equal(in8(t->f, STATUS), expected);
    assert_false(t->f->level[14]);
}

static void command(struct ide_test *t, u8 opcode, u32 lba, u8 count)
{
    out8(t->f, COUNT, count);
    out8(t->f, LOW, (u8)lba);
    out8(t->f, MID, (u8)(lba >> 8));
    out8(t->f, HIGH, (u8)(lba >> 16));
    out8(t->f, SELECT, (u8)(MASTER | lba >> 24));
    out8(t->f, STATUS, opcode);
}

/* 48-bit: the registers twice. */
static void command_ext(struct ide_test *t, u8 opcode, u64 lba, u16 count)
{
    out8(t->f, COUNT, (u8)(count >> 8));
    out8(t->f, LOW, (u8)(lba >> 24));
    out8(t->f, MID, (u8)(lba >> 32));
    out8(t->f, HIGH, (u8)(lba >> 40));
    command(t, opcode, (u32)lba & 0xffffff, (u8)count);
}

static void answer(struct ide_test *t, struct fake_disk *disk)
{
    board_lock(&t->f->board);
    fake_disk_answer(disk);
    board_unlock(&t->f->board);
}

static void read_words(struct ide_test *t, u16 *words, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        words[i] = in16(t->f, DATA);
}

static void expect_sector(struct ide_test *t, u32 lba)
{
    for (unsigned i = 0; i < 128; i++)
        assert_int_equal(in32(t->f, DATA), lba * 128 + i);
}

static void test_signatures(void **state)
{
    struct ide_test *t = *state;
    out8(t->f, SELECT, MASTER);
    assert_int_equal(status(t), DRDY | DSC);
    out8(t->f, LOW, 0x55);
    assert_int_equal(in8(t->f, LOW), 0x55);
    out8(t->f, CONTROL, 0x04);
    assert_int_equal(status(t), BSY);
    out8(t->f, CONTROL, 0x00);
    assert_int_equal(in8(t->f, ERROR), 1);
    assert_int_equal(in8(t->f, LOW), 1);
    assert_int_equal(in8(t->f, MID) | in8(t->f, HIGH), 0);
    out8(t->f, SELECT, SLAVE);
    assert_int_equal(in8(t->f, MID), 0x14);
    assert_int_equal(in8(t->f, HIGH), 0xeb);
    assert_int_equal(status(t), 0);
    /* The other channel is empty. */
    assert_int_equal(in8(t->f, 0x177), 0x7f);
    out8(t->f, SELECT, MASTER);
    out8(t->f, STATUS, 0x90); /* EXECUTE DEVICE DIAGNOSTIC */
    expect_irq(t, DRDY | DSC);
    assert_int_equal(in8(t->f, ERROR), 1);
}

static void test_identify(void **state)
{
    struct ide_test *t = *state;
    u16 words[256];
    command(t, 0xec, 0, 0);
    expect_irq(t, DRDY | DSC | DRQ);
    read_words(t, words, 256);
    assert_int_equal(status(t), DRDY | DSC);
    assert_int_equal(words[1], 4); /* cylinders */
    assert_memory_equal(words + 10, "esirla1 ", 8);
    assert_memory_equal(words + 27, "ODPPLEH RADDSI K", 16);
    assert_int_equal(words[60] | words[61] << 16, DISK_SECTORS);
    assert_int_equal(words[100], DISK_SECTORS);
    assert_true(words[83] & BIT(10));
    assert_true(words[85] & BIT(5)); /* the write cache */
    command(t, 0xef, 0, 0);
    expect_irq(t, DRDY | DSC | ERR);
    assert_int_equal(in8(t->f, ERROR), 4);
    out8(t->f, ERROR, 0x82);
    command(t, 0xef, 0, 0);
    expect_irq(t, DRDY | DSC);
    assert_int_equal(t->disk.flushes, 1);
    command(t, 0xec, 0, 0);
    read_words(t, words, 256);
    assert_false(words[85] & BIT(5));
}

static void test_read(void **state)
{
    struct ide_test *t = *state;
    command(t, 0x20, 100, 3);
    for (unsigned i = 0; i < 3; i++) {
        expect_irq(t, DRDY | DSC | DRQ);
        expect_sector(t, 100 + i);
    }
    assert_false(t->f->level[14]); /* none at the end */
    assert_int_equal(status(t), DRDY | DSC);
    /* CHS: cylinder 1, head 2, sector 3 */
    command(t, 0x20, 0x000103, 1);
    expect_sector(t, 0x103);
    out8(t->f, LOW, 3);
    out8(t->f, MID, 1);
    out8(t->f, HIGH, 0);
    out8(t->f, COUNT, 1);
    out8(t->f, SELECT, 0xa2);
    out8(t->f, STATUS, 0x20);
    expect_sector(t, (1 * 16 + 2) * 63 + 2);
    /* 256 sectors are asked for as none; none is left behind. */
    command(t, 0x20, 0, 0);
    for (unsigned i = 0; i < 256; i++)
        expect_sector(t, i);
    assert_int_equal(status(t), DRDY | DSC);
}

static void test_errors(void **state)
{
    struct ide_test *t = *state;
    command(t, 0x20, DISK_SECTORS, 1);
    expect_irq(t, DRDY | DSC | ERR);
    assert_int_equal(in8(t->f, ERROR), 0x10);
    out8(t->f, LOW, 0); /* there is no sector 0 */
    out8(t->f, SELECT, 0xa0);
    out8(t->f, STATUS, 0x20);
    expect_irq(t, DRDY | DSC | ERR);
    t->disk.error = EIO;
    command(t, 0x20, 1, 1);
    expect_irq(t, DRDY | DSC | ERR);
    assert_int_equal(in8(t->f, ERROR), 0x40);
    command(t, 0x30, 1, 1);
    for (unsigned i = 0; i < 256; i++)
        out16(t->f, DATA, 0);
    expect_irq(t, DRDY | DSC | ERR);
    t->disk.error = 0;
    t->disk.block.read_only = true;
    command(t, 0x30, 1, 1);
    expect_irq(t, DRDY | DSC | ERR);
    assert_int_equal(in8(t->f, ERROR), 4);
    command(t, 0xff, 0, 0);
    expect_irq(t, DRDY | DSC | ERR);
    command(t, 0xc4, 0, 1); /* READ MULTIPLE before SET MULTIPLE */
    expect_irq(t, DRDY | DSC | ERR);
}

static void test_write(void **state)
{
    struct ide_test *t = *state;
    command(t, 0x30, 7, 2);
    for (unsigned block = 0; block < 2; block++) {
        assert_int_equal(t->f->level[14], block); /* not before the first one */
        assert_int_equal(in8(t->f, STATUS), DRDY | DSC | DRQ);
        for (unsigned i = 0; i < 128; i++)
            out32(t->f, DATA, 0xabcd0000 + block * 128 + i);
    }
    expect_irq(t, DRDY | DSC);
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(((u32 *)t->disk.data)[7 * 128 + i], 0xabcd0000 + i);
    command(t, 0xe7, 0, 0);
    expect_irq(t, DRDY | DSC);
    assert_int_equal(t->disk.flushes, 1);
    out8(t->f, ERROR, 0x82); /* without a write cache each write is flushed */
    command(t, 0xef, 0, 0);
    in8(t->f, STATUS);
    command(t, 0x30, 9, 1);
    for (unsigned i = 0; i < 256; i++)
        out16(t->f, DATA, 1);
    expect_irq(t, DRDY | DSC);
    assert_int_equal(t->disk.flushes, 3);
}

static void test_multiple(void **state)
{
    struct ide_test *t = *state;
    command(t, 0xc6, 0, 3);
    expect_irq(t, DRDY | DSC | ERR);
    command(t, 0xc6, 0, 8);
    expect_irq(t, DRDY | DSC);
    command(t, 0xc4, 16, 10); /* blocks of 8 and 2 */
    expect_irq(t, DRDY | DSC | DRQ);
    for (unsigned i = 0; i < 8; i++)
        expect_sector(t, 16 + i);
    expect_irq(t, DRDY | DSC | DRQ);
    expect_sector(t, 24);
    expect_sector(t, 25);
    assert_int_equal(status(t), DRDY | DSC);
    command_ext(t, 0x39, 32, 12);
    for (unsigned i = 0; i < 8 * 128; i++)
        out32(t->f, DATA, i);
    expect_irq(t, DRDY | DSC | DRQ);
    for (unsigned i = 0; i < 4 * 128; i++)
        out32(t->f, DATA, 8 * 128 + i);
    expect_irq(t, DRDY | DSC);
    for (unsigned i = 0; i < 12 * 128; i++)
        assert_int_equal(((u32 *)t->disk.data)[32 * 128 + i], i);
}

/* A back end that takes its time: the drive is busy, and a reset waits for it. */
static void test_slow(void **state)
{
    struct ide_test *t = *state;
    t->disk.slow = true;
    command(t, 0x20, 5, 1);
    assert_int_equal(status(t), BSY | DRDY | DSC);
    assert_false(t->f->level[14]);
    out8(t->f, STATUS, 0xec); /* not taken */
    answer(t, &t->disk);
    expect_irq(t, DRDY | DSC | DRQ);
    expect_sector(t, 5);
    command(t, 0x20, 5, 1);
    out8(t->f, CONTROL, 4);
    out8(t->f, CONTROL, 0);
    assert_int_equal(status(t), BSY);
    answer(t, &t->disk);
    assert_int_equal(status(t), DRDY | DSC);
    assert_false(t->f->level[14]);
    command(t, 0x20, 5, 1);
    board_lock(&t->f->board);
    devices_reset(&t->f->board);
    board_unlock(&t->f->board);
    assert_int_equal(status(t), DRDY | DSC);
}

static void dma(struct ide_test *t, const u32 (*prd)[2], unsigned n, bool to_memory)
{
    ram_write(&t->f->board, gpa(PRDT), prd, 8 * n);
    out8(t->f, t->bm + 2, 0x06);
    out32(t->f, t->bm + 4, PRDT);
    out8(t->f, t->bm, to_memory ? 9 : 1);
}

static void test_dma(void **state)
{
    struct ide_test *t = *state;
    static const u32 two[][2] = {{MEMORY, 0x400}, {MEMORY + 0x1000, 0x80000000 | 0xfc00}};
    static const u32 one[][2] = {{MEMORY, 0x80000000}}; /* 64 KiB */
    u32 word;
    command(t, 0xc8, 40, 128);
    assert_int_equal(status(t), BSY | DRDY | DSC);
    dma(t, two, 2, true);
    expect_irq(t, DRDY | DSC);
    assert_int_equal(in8(t->f, t->bm + 2) & 7, 4);
    out8(t->f, t->bm + 2, 4);
    assert_int_equal(in8(t->f, t->bm + 2) & 7, 0);
    out8(t->f, t->bm, 0);
    ram_read(&t->f->board, gpa(MEMORY + 0x3fc), &word, 4);
    assert_int_equal(word, 40 * 128 + 255);
    ram_read(&t->f->board, gpa(MEMORY + 0x1000), &word, 4);
    assert_int_equal(word, 40 * 128 + 256);
    /* Back, longer than the buffer; the bus master started first. */
    dma(t, one, 1, false);
    command_ext(t, 0x35, 1000, 128);
    expect_irq(t, DRDY | DSC);
    assert_int_equal(in8(t->f, t->bm + 2) & 7, 4);
    out8(t->f, t->bm, 0);
    assert_memory_equal(t->disk.data + 1000 * 512, t->disk.data + 40 * 512, 0x400);
    /* Less memory than data: the drive waits for ever. */
    command(t, 0xc8, 40, 129);
    dma(t, one, 1, true);
    assert_false(t->f->level[14]);
    assert_int_equal(in8(t->f, t->bm + 2) & 1, 0);
    assert_int_equal(status(t), BSY | DRDY | DSC);
    out8(t->f, t->bm, 0);
    out8(t->f, CONTROL, 4);
    out8(t->f, CONTROL, 0);
    /* More memory than data: the bus master stays active. */
    command(t, 0xc8, 40, 1);
    dma(t, one, 1, true);
    expect_irq(t, DRDY | DSC);
    assert_int_equal(in8(t->f, t->bm + 2) & 7, 5);
    out8(t->f, t->bm, 0);
    /* No memory there at all. */
    static const u32 nowhere[][2] = {{0xd0000000, 0x80000000}};
    command(t, 0xc8, 40, 1);
    dma(t, nowhere, 1, true);
    expect_irq(t, DRDY | DSC | ERR);
    assert_int_equal(in8(t->f, t->bm + 2) & 7, 6);
}

static void trim(struct ide_test *t, const u64 *ranges, size_t size, u8 blocks)
{
    static const u32 prd[][2] = {{MEMORY, 0x80000400}};
    ram_write(&t->f->board, gpa(MEMORY), (u8[1024]){0}, 1024);
    ram_write(&t->f->board, gpa(MEMORY), ranges, size);
    out8(t->f, ERROR, 1);
    command_ext(t, 0x06, 0, blocks);
    dma(t, prd, 1, false);
}

static void test_trim(void **state)
{
    struct ide_test *t = *state;
    u16 words[256];
    command(t, 0xec, 0, 0);
    read_words(t, words, 256);
    assert_int_equal(words[169], 0);
    static const u64 ranges[] = {8ull << 48 | 100, 0, 1ull << 48 | (DISK_SECTORS - 1)};
    trim(t, ranges, sizeof(ranges), 2);
    assert_int_equal(in8(t->f, STATUS), DRDY | DSC | ERR); /* the disk cannot */
    out8(t->f, t->bm, 0);
    t->disk.block.discards = t->disk.slow = true;
    command(t, 0xec, 0, 0);
    read_words(t, words, 256);
    assert_int_equal(words[169], 1);
    assert_int_equal(words[105], 128);
    trim(t, ranges, sizeof(ranges), 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(status(t), BSY | DRDY | DSC);
        answer(t, &t->disk);
    }
    expect_irq(t, DRDY | DSC);
    out8(t->f, t->bm, 0);
    for (unsigned i = 99; i < 109; i++)
        assert_int_equal(t->disk.data[i * 512] | t->disk.data[i * 512 + 1],
                         i == 99 || i == 108 ? (i * 128 & 0xff) | (i * 128 >> 8 & 0xff) : 0);
    assert_int_equal(t->disk.data[t->disk.block.size - 4], 0);
    static const u64 beyond[] = {2ull << 48 | (DISK_SECTORS - 1)};
    trim(t, beyond, sizeof(beyond), 2);
    expect_irq(t, DRDY | DSC | ERR);
    out8(t->f, t->bm, 0);
    t->disk.slow = false;
}

/* -- The CD-ROM drive ---------------------------------------------------------------------- */

static void packet(struct ide_test *t, const u8 *bytes, bool by_dma, u16 limit)
{
    out8(t->f, SELECT, SLAVE);
    out8(t->f, ERROR, by_dma);
    out8(t->f, MID, (u8)limit);
    out8(t->f, HIGH, (u8)(limit >> 8));
    out8(t->f, STATUS, 0xa0);
    assert_false(t->f->level[14]);
    assert_int_equal(in8(t->f, COUNT), 1);
    assert_true(status(t) & DRQ);
    for (unsigned i = 0; i < 12; i += 2)
        out16(t->f, DATA, (u16)(bytes[i] | bytes[i + 1] << 8));
}

/* Reads one data block. */
static unsigned data_block(struct ide_test *t, u8 *data)
{
    assert_true(t->f->level[14]);
    assert_true(in8(t->f, STATUS) & DRQ);
    assert_int_equal(in8(t->f, COUNT), 2);
    unsigned n = in8(t->f, MID) | in8(t->f, HIGH) << 8;
    for (unsigned i = 0; i < n; i += 2) {
        u16 word = in16(t->f, DATA);
        data[i] = (u8)word;
        if (i + 1 < n)
            data[i + 1] = (u8)(word >> 8);
    }
    return n;
}

static void expect_end(struct ide_test *t, bool failed)
{
    expect_irq(t, DRDY | (failed ? ERR : 0));
    assert_int_equal(in8(t->f, COUNT), 3);
}

static void sense(struct ide_test *t, u8 key, u8 asc)
{
    u8 data[18];
    packet(t, (u8[12]){3, [4] = 18}, false, 0xfffe);
    assert_int_equal(data_block(t, data), 18);
    expect_end(t, false);
    assert_int_equal(data[2], key);
    assert_int_equal(data[12], asc);
}

static void test_attention(void **state)
{
    struct ide_test *t = *state;
    packet(t, (u8[12]){0}, false, 0);
    expect_end(t, true);
    assert_int_equal(in8(t->f, ERROR), 0x60);
    sense(t, 6, 0x29);
    packet(t, (u8[12]){0}, false, 0);
    expect_end(t, false);
    sense(t, 0, 0);
    packet(t, (u8[12]){0xee}, false, 0);
    expect_end(t, true);
    assert_int_equal(in8(t->f, ERROR), 0x54);
    sense(t, 5, 0x20);
}

static void test_packet_data(void **state)
{
    struct ide_test *t = *state;
    u8 data[64];
    u16 words[256];
    packet(t, (u8[12]){0x12, [4] = 36}, false, 32); /* INQUIRY in blocks of 32 and 4 */
    assert_int_equal(data_block(t, data), 32);
    assert_int_equal(data_block(t, data + 32), 4);
    expect_end(t, false);
    assert_int_equal(data[0], 5);
    assert_memory_equal(data + 8, "DOPPEL  DOPPEL CD-ROM", 21);
    sense(t, 6, 0x29);
    packet(t, (u8[12]){0x25}, false, 8);
    assert_int_equal(data_block(t, data), 8);
    expect_end(t, false);
    assert_memory_equal(data, "\0\0\0\x63\0\0\x08\0", 8);
    packet(t, (u8[12]){0x43, 2, [8] = 20}, false, 0xfffe); /* TOC, MSF */
    assert_int_equal(data_block(t, data), 20);
    expect_end(t, false);
    assert_memory_equal(data, "\0\x12\1\1\0\x14\1\0\0\0\2\0\0\x14\xaa\0\0\0\3\x19", 20);
    packet(t, (u8[12]){0x5a, [2] = 0x2a, [8] = 64}, false, 0xfffe);
    assert_int_equal(data_block(t, data), 28);
    expect_end(t, false);
    assert_int_equal(data[8], 0x2a);
    packet(t, (u8[12]){0x4a, 1, [4] = 0x10, [8] = 8}, false, 0xfffe);
    assert_int_equal(data_block(t, data), 8);
    expect_end(t, false);
    assert_int_equal(data[5], 2); /* a disc, the tray closed */
    out8(t->f, STATUS, 0xa1);
    expect_irq(t, DRDY | DSC | DRQ);
    read_words(t, words, 256);
    expect_irq(t, DRDY);
    assert_int_equal(words[0], 0x85c0);
    out8(t->f, STATUS, 0xec); /* what it is not */
    expect_irq(t, DRDY | DSC | ERR);
    assert_int_equal(in8(t->f, MID), 0x14);
}

static void test_cd_read(void **state)
{
    struct ide_test *t = *state;
    static const u32 prd[][2] = {{MEMORY, 0x80000000 | 3 * 2048}};
    static u8 data[65536], memory[3 * 2048];
    sense(t, 6, 0x29);
    packet(t, (u8[12]){0x28, [5] = 10, [8] = 2}, false, 2048);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(data_block(t, data + 2048 * i), 2048);
    expect_end(t, false);
    assert_memory_equal(data, t->cd.data + 10 * 2048, 4096);
    /* By DMA, more slowly than the driver. */
    t->cd.slow = true;
    packet(t, (u8[12]){0xa8, [5] = 20, [9] = 3}, true, 0);
    dma(t, prd, 1, true);
    assert_int_equal(status(t), BSY);
    answer(t, &t->cd);
    expect_end(t, false);
    ram_read(&t->f->board, gpa(MEMORY), memory, sizeof(memory));
    assert_memory_equal(memory, t->cd.data + 20 * 2048, sizeof(memory));
    out8(t->f, t->bm, 0);
    t->cd.slow = false;
    packet(t, (u8[12]){0x28, [5] = CD_BLOCKS - 1, [8] = 2}, false, 2048);
    expect_end(t, true);
    sense(t, 5, 0x21);
    t->cd.error = EIO;
    packet(t, (u8[12]){0x28, [5] = 1, [8] = 1}, false, 2048);
    expect_end(t, true);
    sense(t, 3, 0x11);
}

static void test_tray(void **state)
{
    struct ide_test *t = *state;
    sense(t, 6, 0x29);
    packet(t, (u8[12]){0x1e, [4] = 1}, false, 0); /* locked */
    expect_end(t, false);
    packet(t, (u8[12]){0x1b, [4] = 2}, false, 0);
    expect_end(t, true);
    sense(t, 5, 0x53);
    packet(t, (u8[12]){0x1e}, false, 0);
    expect_end(t, false);
    packet(t, (u8[12]){0x1b, [4] = 2}, false, 0);
    expect_end(t, false);
    packet(t, (u8[12]){0x28, [8] = 1}, false, 2048);
    expect_end(t, true);
    sense(t, 2, 0x3a);
    packet(t, (u8[12]){0x1b, [4] = 3}, false, 0); /* in again: a new disc */
    expect_end(t, false);
    packet(t, (u8[12]){0}, false, 0);
    expect_end(t, true);
    packet(t, (u8[12]){0}, false, 0);
    expect_end(t, false);
}

static void count_move(void *opaque, bool open)
{
    *(int *)opaque += open ? 1 : 100;
}

static u8 media_event(struct ide_test *t)
{
    packet(t, (u8[12]){0x4a, 1, [4] = 0x10, [8] = 8}, false, 0xfffe);
    u16 words[4];
    read_words(t, words, 4);
    expect_end(t, false);
    return (u8)words[2];
}

/* What the user does to the drive, and the guest sees of it. */
static void test_exchange(void **state)
{
    struct ide_test *t = *state;
    struct tray *tray = ide_tray(t->ide, 0, 1);
    int moves = 0;
    tray->moved = count_move;
    tray->opaque = &moves;
    sense(t, 6, 0x29);
    assert_int_equal(media_event(t), 0);
    packet(t, (u8[12]){0x1e, [4] = 1}, false, 0); /* locked */
    expect_end(t, false);
    assert_true(tray->is_locked(tray->drive));
    tray->press(tray->drive);
    assert_int_equal(media_event(t), 1);
    assert_int_equal(media_event(t), 0);
    /* By force, in the middle of a read. */
    packet(t, (u8[12]){0x28, [5] = 10, [8] = 40}, false, 2048);
    assert_int_equal(status(t), DRDY | DSC | DRQ);
    tray->move(tray->drive, true);
    t->cd.block.size = 0;
    tray->exchanged(tray->drive);
    assert_true(tray->is_open(tray->drive));
    assert_false(tray->is_locked(tray->drive));
    assert_int_equal(moves, 1);
    assert_int_equal(status(t) & (DRQ | ERR), ERR);
    sense(t, 2, 0x3a);
    assert_int_equal(media_event(t), 3);
    /* A smaller disc. */
    t->cd.block.size = 20 * 2048;
    tray->exchanged(tray->drive);
    tray->move(tray->drive, false);
    assert_int_equal(moves, 101);
    assert_int_equal(media_event(t), 2);
    packet(t, (u8[12]){0}, false, 0);
    expect_end(t, true);
    sense(t, 6, 0x28);
    packet(t, (u8[12]){0x28, [5] = 20, [8] = 1}, false, 2048);
    expect_end(t, true);
    sense(t, 5, 0x21);
    /* The guest's own hand is seen, too. */
    packet(t, (u8[12]){0x1b, [4] = 2}, false, 0);
    expect_end(t, false);
    assert_int_equal(moves, 102);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_signatures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_multiple, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dma, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trim, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attention, setup, teardown),
        cmocka_unit_test_setup_teardown(test_packet_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cd_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tray, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exchange, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
