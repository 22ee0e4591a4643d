/* The virtio block device over a disk in memory that answers at once or when told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "device/virtio/blk.h"
#include "driver.h"
#include "memory/pmap.h"

#define DISK (4 * MiB)

enum { T_IN, T_OUT, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP };

#define F_RO           BIT(5)
#define F_FLUSH        BIT(9)
#define F_CONFIG_WCE   BIT(11)
#define F_DISCARD      BIT(13)
#define F_WRITE_ZEROES BIT(14)

struct fixture {
    struct rig rig;
    struct driver driver;
    struct block block;
    u8 *disk;
    bool later; /* requests wait for complete() */
    int error;  /* what requests end with */
    struct block_request *waiting[256];
    unsigned n_waiting, most_waiting;
    unsigned count[5]; /* by enum block_op */
    bool unmap;
};

/* Moves the data of a request, in parts or in one piece, to or from the disk. */
static void move(const struct block_request *request, u8 *at, bool write)
{
    const struct iovec whole = {request->data, request->len};
    const struct iovec *parts = request->data ? &whole : request->parts;
    u64 total = 0;
    for (unsigned i = 0; i < (request->data ? 1 : request->n_parts); i++) {
        if (write)
            memcpy(at + total, parts[i].iov_base, parts[i].iov_len);
        else
            memcpy(parts[i].iov_base, at + total, parts[i].iov_len);
        total += parts[i].iov_len;
    }
    assert_int_equal(total, request->len);
}

static void carry_out(struct fixture *fixture, struct block_request *request)
{
    fixture->count[request->op]++;
    fixture->unmap = request->unmap;
    request->error = fixture->error;
    assert_true(request->offset + request->len <= DISK);
    if (request->error)
        return;
    u8 *at = fixture->disk + request->offset;
    if (request->op == BLOCK_READ || request->op == BLOCK_WRITE)
        move(request, at, request->op == BLOCK_WRITE);
    else if (request->op == BLOCK_WRITE_ZEROES)
        memset(at, 0, request->len);
    else if (request->op == BLOCK_DISCARD)
        memset(at, 0xdd, request->len);
}

static bool disk_submit(void *back, struct block_request *request)
{
    struct fixture *fixture = back;
    if (!fixture->later) {
        carry_out(fixture, request);
        return true;
    }
    assert_true(fixture->n_waiting < ARRAY_LEN(fixture->waiting));
    fixture->waiting[fixture->n_waiting++] = request;
    if (fixture->n_waiting > fixture->most_waiting)
        fixture->most_waiting = fixture->n_waiting;
    return false;
}

/* The last one first: completions have no order. */
static bool complete(struct fixture *fixture)
{
    if (!fixture->n_waiting)
        return false;
    struct block_request *request = fixture->waiting[--fixture->n_waiting];
    carry_out(fixture, request);
    board_lock(&fixture->rig.board);
    request->done(request);
    board_unlock(&fixture->rig.board);
    return true;
}

static void disk_drain(void *back)
{
    struct fixture *fixture = back;
    while (fixture->n_waiting) {
        struct block_request *request = fixture->waiting[--fixture->n_waiting];
        carry_out(fixture, request);
        request->done(request);
    }
}

static int create(void **state, bool read_only, bool parts)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof(fixture));
    rig_init(&fixture.rig);
    fixture.disk = malloc(DISK);
    for (u64 i = 0; i < DISK; i++)
        fixture.disk[i] = (u8)(i / 512 * 7 + i);
    fixture.block = (struct block){.size = DISK,
                                   .read_only = read_only,
                                   .discards = true,
                                   .takes_parts = parts,
                                   .submit = disk_submit,
                                   .drain = disk_drain,
                                   .back = &fixture};
    const struct virtio_blk_config config = {.block = &fixture.block,
                                             .serial = "serial-0123456789abcdef",
                                             .queues = 2,
                                             .slot = 4,
                                             .writeback = true};
    assert_non_null(virtio_blk_create(&fixture.rig.board, fixture.rig.host, &config));
    driver_find(&fixture.driver, &fixture.rig, 4);
    driver_enable_msix(&fixture.driver);
    *state = &fixture;
    return 0;
}

static int setup(void **state)
{
    return create(state, false, false);
}

static int setup_parts(void **state)
{
    return create(state, false, true);
}

static int setup_read_only(void **state)
{
    return create(state, true, false);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    rig_destroy(&fixture->rig);
    free(fixture->disk);
    return 0;
}

/* -- Requests ------------------------------------------------------------------------------ */

struct ticket {
    u64 data, status;
    u16 head;
};

/* `len` bytes of data; the device writes them for T_IN and T_GET_ID. */
static struct ticket offer(struct driver *driver, unsigned queue, u32 type, u64 sector,
                           const void *out, u32 len)
{
    u64 header = driver_alloc(driver, 16);
    u64 data = driver_alloc(driver, len + 1);
    struct ticket ticket = {data, driver_alloc(driver, 1), 0};
    const u64 words[2] = {type, sector};
    u8 none = 0xee;
    bool in = type == T_IN || type == T_GET_ID;
    ram_write(&driver->rig->board, gpa(header), words, 16);
    ram_write(&driver->rig->board, gpa(ticket.status), &none, 1);
    if (!in)
        ram_write(&driver->rig->board, gpa(data), out, len);
    const struct piece pieces[] = {{header, 16, false},
                                   {data, len / 3, in},
                                   {data + len / 3, len - len / 3, in},
                                   {ticket.status, 1, true}};
    const struct piece short_pieces[] = {{header, 16, false}, {ticket.status, 1, true}};
    ticket.head = len ? driver_chain(driver, queue, pieces, 4, type & 1)
                      : driver_chain(driver, queue, short_pieces, 2, false);
    driver_offer(driver, queue, ticket.head);
    return ticket;
}

static u8 status_of(struct driver *driver, struct ticket ticket)
{
    u8 status;
    ram_read(&driver->rig->board, gpa(ticket.status), &status, 1);
    return status;
}

static u8 do_one(struct fixture *fixture, u32 type, u64 sector, const void *out, u32 len,
                 u64 *data)
{
    struct ticket ticket = offer(&fixture->driver, 0, type, sector, out, len);
    u32 id, used;
    driver_notify(&fixture->driver, 0);
    while (complete(fixture))
        ;
    assert_true(driver_used(&fixture->driver, 0, &id, &used));
    assert_int_equal(id, ticket.head);
    if (data)
        *data = ticket.data;
    return status_of(&fixture->driver, ticket);
}

static void assert_data(struct fixture *fixture, u64 data, const u8 *wanted, u32 len)
{
    u8 *got = malloc(len);
    assert_true(ram_read(&fixture->rig.board, gpa(data), got, len));
    assert_memory_equal(got, wanted, len);
    free(got);
}

/* -- Tests --------------------------------------------------------------------------------- */

static void test_config(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    assert_int_equal(driver_read(driver, driver->config, 8), DISK / 512);
    assert_int_equal(driver_read(driver, driver->config + 12, 4), 254); /* seg_max */
    assert_int_equal(driver_read(driver, driver->config + 20, 4), 512); /* blk_size */
    assert_int_equal(driver_read(driver, driver->config + 34, 2), 2);   /* num_queues */
    assert_int_equal(driver_read(driver, driver->config + 56, 1), 1);   /* may_unmap */
}

static void test_read_write(void **state)
{
    struct fixture *fixture = *state;
    u64 data;
    driver_start(&fixture->driver, F_FLUSH, 1);
    for (unsigned i = 0; i < 40; i++) {
        fixture->later = i % 2;
        u32 len = 512 * (1 + i % 9);
        u64 sector = i * 31;
        assert_int_equal(do_one(fixture, T_IN, sector, NULL, len, &data), S_OK);
        assert_data(fixture, data, fixture->disk + 512 * sector, len);
        u8 out[9 * 512];
        memset(out, (int)i, sizeof(out));
        assert_int_equal(do_one(fixture, T_OUT, sector, out, len, NULL), S_OK);
        assert_memory_equal(fixture->disk + 512 * sector, out, len);
        assert_true(driver_took_interrupt(&fixture->driver, 1));
    }
    assert_int_equal(fixture->count[BLOCK_FLUSH], 0);
    assert_int_equal(do_one(fixture, T_FLUSH, 0, NULL, 0, NULL), S_OK);
    assert_int_equal(fixture->count[BLOCK_FLUSH], 1);
}

/* Larger than a buffer: in pieces, whole. */
static void test_large(void **state)
{
    struct fixture *fixture = *state;
    u64 data;
    driver_start(&fixture->driver, F_FLUSH, 1);
    for (unsigned i = 0; i < 2; i++) {
        fixture->later = i;
        u32 len = 3 * MiB - 512;
        assert_int_equal(do_one(fixture, T_IN, 1, NULL, len, &data), S_OK);
        assert_data(fixture, data, fixture->disk + 512, len);
    }
    assert_int_equal(fixture->count[BLOCK_READ], 6);
}

static void test_identify(void **state)
{
    struct fixture *fixture = *state;
    u64 data;
    driver_start(&fixture->driver, F_FLUSH, 1);
    assert_int_equal(do_one(fixture, T_GET_ID, 0, NULL, 20, &data), S_OK);
    assert_data(fixture, data, (const u8 *)"serial-0123456789abc", 20);
    assert_int_equal(do_one(fixture, T_GET_ID, 0, NULL, 8, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, 77, 0, "", 1, NULL), S_UNSUPP);
}

static void test_errors(void **state)
{
    struct fixture *fixture = *state;
    u8 sector[512] = {0};
    driver_start(&fixture->driver, F_FLUSH, 1);
    u64 end = DISK / 512;
    assert_int_equal(do_one(fixture, T_IN, end, NULL, 512, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_IN, end - 1, NULL, 1024, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_IN, UINT64_MAX, NULL, 512, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_IN, UINT64_MAX / 512, NULL, 1024, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_IN, 0, NULL, 511, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_OUT, end, sector, 512, NULL), S_IOERR);
    assert_int_equal(fixture->count[BLOCK_READ] + fixture->count[BLOCK_WRITE], 0);
    for (unsigned i = 0; i < 2; i++) {
        fixture->later = i;
        fixture->error = EIO;
        assert_int_equal(do_one(fixture, T_IN, 0, NULL, 512, NULL), S_IOERR);
        assert_int_equal(do_one(fixture, T_OUT, 0, sector, 512, NULL), S_IOERR);
        assert_int_equal(do_one(fixture, T_FLUSH, 0, NULL, 0, NULL), S_IOERR);
        fixture->error = 0;
        assert_int_equal(do_one(fixture, T_IN, 0, NULL, 512, NULL), S_OK);
    }
}

static void test_ranges(void **state)
{
    struct fixture *fixture = *state;
    const struct {
        u64 sector;
        u32 sectors, flags;
    } two[] = {{8, 8, 0}, {64, 16, 0}}, unmap = {100, 4, 1}, flags = {8, 8, 2},
      beyond = {DISK / 512 - 1, 2, 0};
    driver_start(&fixture->driver, F_FLUSH | F_DISCARD | F_WRITE_ZEROES, 1);
    u8 before = fixture->disk[16 * 512];
    assert_int_equal(do_one(fixture, T_DISCARD, 0, two, sizeof(two), NULL), S_OK);
    assert_int_equal(fixture->disk[8 * 512], 0xdd);
    assert_int_equal(fixture->disk[16 * 512], before);
    assert_int_equal(fixture->disk[80 * 512 - 1], 0xdd);
    assert_int_equal(do_one(fixture, T_WRITE_ZEROES, 0, two, sizeof(two), NULL), S_OK);
    assert_int_equal(fixture->disk[8 * 512], 0);
    assert_false(fixture->unmap);
    assert_int_equal(do_one(fixture, T_WRITE_ZEROES, 0, &unmap, sizeof(unmap), NULL), S_OK);
    assert_true(fixture->unmap);
    assert_int_equal(do_one(fixture, T_DISCARD, 0, &unmap, sizeof(unmap), NULL), S_UNSUPP);
    assert_int_equal(do_one(fixture, T_WRITE_ZEROES, 0, &flags, sizeof(flags), NULL), S_UNSUPP);
    assert_int_equal(do_one(fixture, T_DISCARD, 0, &beyond, sizeof(beyond), NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_DISCARD, 0, &beyond, 15, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_DISCARD, 0, &beyond, 0, NULL), S_IOERR);
    driver_start(&fixture->driver, F_FLUSH, 1);
    assert_int_equal(do_one(fixture, T_DISCARD, 0, two, sizeof(two), NULL), S_UNSUPP);
}

/* 5.2.6.2: who writes is told the truth about what is durable. */
static void test_writethrough(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    u8 sector[512] = {1};
    driver_start(driver, 0, 1); /* cannot flush: each write is durable */
    assert_int_equal(do_one(fixture, T_OUT, 0, sector, 512, NULL), S_OK);
    assert_int_equal(fixture->count[BLOCK_FLUSH], 1);
    driver_start(driver, F_FLUSH | F_CONFIG_WCE, 1);
    assert_int_equal(driver_read(driver, driver->config + 32, 1), 1);
    assert_int_equal(do_one(fixture, T_OUT, 0, sector, 512, NULL), S_OK);
    assert_int_equal(fixture->count[BLOCK_FLUSH], 1);
    driver_write(driver, driver->config + 32, 1, 0);
    fixture->later = true;
    assert_int_equal(do_one(fixture, T_OUT, 0, sector, 512, NULL), S_OK);
    assert_int_equal(fixture->count[BLOCK_FLUSH], 2);
    /* A reset brings the device's own mode back. */
    driver_start(driver, F_FLUSH | F_CONFIG_WCE, 1);
    assert_int_equal(driver_read(driver, driver->config + 32, 1), 1);
}

static void test_read_only(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    u8 sector[512] = {1};
    driver_write(driver, driver->common + COMMON_DEVICE_SELECT, 4, 0);
    u64 features = driver_read(driver, driver->common + COMMON_DEVICE_FEATURE, 4);
    assert_true(features & F_RO);
    assert_false(features & (F_DISCARD | F_WRITE_ZEROES));
    driver_start(driver, F_RO, 1);
    assert_int_equal(do_one(fixture, T_OUT, 0, sector, 512, NULL), S_IOERR);
    assert_int_equal(do_one(fixture, T_IN, 0, NULL, 512, NULL), S_OK);
}

static void test_many(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct ticket tickets[2][12];
    u32 id, len;
    fixture->later = true;
    driver_start(driver, F_FLUSH, 2);
    for (unsigned i = 0; i < 24; i++)
        tickets[i % 2][i / 2] = offer(driver, i % 2, T_IN, i, NULL, 512);
    driver_notify(driver, 0);
    driver_notify(driver, 1);
    assert_int_equal(fixture->n_waiting, 24);
    while (complete(fixture))
        ;
    for (unsigned queue = 0; queue < 2; queue++) {
        assert_true(driver_took_interrupt(driver, 1 + queue));
        for (unsigned i = 0; i < 12; i++) {
            assert_int_equal(status_of(driver, tickets[queue][i]), S_OK);
            assert_data(fixture, tickets[queue][i].data, fixture->disk + 512 * (2 * i + queue),
                        512);
            assert_true(driver_used(driver, queue, &id, &len));
        }
    }
}

/* Buffers are bounded, whatever the guest asks for; the rest waits and is not forgotten. */
static void test_bounded(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    fixture->later = true;
    driver_start(driver, F_FLUSH, 2);
    /* 60 requests of 2 MiB, to one guest page over and over. */
    u64 header = driver_alloc(driver, 16), page = driver_alloc(driver, 4096);
    u64 table = driver_alloc(driver, 16), status = driver_alloc(driver, 1);
    (void)table;
    const u64 words[2] = {T_IN, 0};
    ram_write(&driver->rig->board, gpa(header), words, 16);
    driver_set_desc(driver, 0, 0, header, 16, DESC_NEXT, 1);
    driver_set_desc(driver, 0, 1, page, 2 * MiB, DESC_NEXT | DESC_WRITE, 2);
    driver_set_desc(driver, 0, 2, status, 1, DESC_WRITE, 0);
    for (unsigned i = 0; i < 60; i++)
        driver_offer(driver, 0, 0);
    driver_notify(driver, 0);
    assert_int_equal(fixture->n_waiting, 32);
    while (complete(fixture))
        ;
    assert_int_equal(driver_used_index(driver, 0), 60);
    assert_int_equal(fixture->count[BLOCK_READ], 120);
    assert_true(fixture->most_waiting <= 33);
}

/* A reset in the middle: nothing of the old life is written to memory, and the status tells
 * when it is over. */
static void test_reset(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    fixture->later = true;
    driver_start(driver, F_FLUSH, 1);
    struct ticket ticket = offer(driver, 0, T_IN, 0, NULL, 512);
    offer(driver, 0, T_FLUSH, 0, NULL, 0);
    driver_notify(driver, 0);
    driver_write(driver, driver->common + COMMON_STATUS, 1, 0);
    assert_true(complete(fixture));
    assert_int_not_equal(driver_read(driver, driver->common + COMMON_STATUS, 1), 0);
    assert_true(complete(fixture));
    assert_int_equal(driver_read(driver, driver->common + COMMON_STATUS, 1), 0);
    assert_int_equal(status_of(driver, ticket), 0xee);
    /* The machine's reset waits. */
    driver_start(driver, F_FLUSH, 1);
    ticket = offer(driver, 0, T_IN, 0, NULL, 512);
    driver_notify(driver, 0);
    board_lock(&fixture->rig.board);
    devices_reset(&fixture->rig.board);
    board_unlock(&fixture->rig.board);
    assert_int_equal(fixture->n_waiting, 0);
    assert_int_equal(status_of(driver, ticket), 0xee);
    driver_find(driver, &fixture->rig, 4);
    driver_start(driver, F_FLUSH, 1);
    assert_int_equal(do_one(fixture, T_IN, 0, NULL, 512, NULL), S_OK);
}

/* No room for a status: there is no way to answer. */
static void test_no_status(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    const struct piece out = {driver_alloc(driver, 16), 16, false};
    const struct piece in = {driver_alloc(driver, 16), 16, true};
    driver_start(driver, F_FLUSH, 1);
    driver_offer(driver, 0, driver_chain(driver, 0, &out, 1, false));
    driver_notify(driver, 0);
    assert_true(driver_read(driver, driver->common + COMMON_STATUS, 1) & 64);
    driver_start(driver, F_FLUSH, 1);
    driver_offer(driver, 0, driver_chain(driver, 0, &in, 1, false));
    driver_notify(driver, 0);
    assert_true(driver_read(driver, driver->common + COMMON_STATUS, 1) & 64);
    /* What was offered behind it stays where it is. */
    driver_start(driver, F_FLUSH, 1);
    driver_offer(driver, 0, driver_chain(driver, 0, &in, 1, false));
    offer(driver, 0, T_FLUSH, 0, NULL, 0);
    driver_notify(driver, 0);
    assert_true(driver_read(driver, driver->common + COMMON_STATUS, 1) & 64);
    assert_int_equal(driver_used_index(driver, 0), 0);
    /* Data outside RAM: an error of that request alone. */
    driver_start(driver, F_FLUSH, 1);
    u64 header = driver_alloc(driver, 16), status = driver_alloc(driver, 1);
    const u64 words[2] = {T_IN, 0};
    ram_write(&driver->rig->board, gpa(header), words, 16);
    const struct piece lost[] = {{header, 16, false}, {2 * GiB, 512, true}, {status, 1, true}};
    driver_offer(driver, 0, driver_chain(driver, 0, lost, 3, false));
    driver_notify(driver, 0);
    assert_int_equal(driver_used_index(driver, 0), 1);
    assert_int_equal(status_of(driver, (struct ticket){.status = status}), S_IOERR);
}

static void count_code(void *opaque, struct gfn f)
{
    *(unsigned *)opaque += 1;
}

/* What was read straight into memory counts as written there, by whole and by part. */
static void test_parts(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct board *board = &fixture->rig.board;
    unsigned codes = 0;
    driver_start(driver, F_FLUSH, 1);
    board->code_written = count_code;
    board->opaque = &codes;
    u64 header = driver_alloc(driver, 16), status = driver_alloc(driver, 1);
    const u64 words[2] = {T_IN, 5}, data = 8 * MiB + 4000;
    ram_write(board, gpa(header), words, 16);
    for (u64 f = data >> PAGE_SHIFT; f < (data >> PAGE_SHIFT) + 5; f++) {
        pmap_page(board->pmap, gfn(f));
        pmap_set_flags(board->pmap, gfn(f), PMAP_CODE, PMAP_DIRTY);
    }
    /* 20 bytes, 100 in the next page, the rest apart: 16 sectors. */
    const struct piece pieces[] = {{header, 16, false},
                                   {data, 120, true},
                                   {data + 4096, 8192 - 120, true},
                                   {status, 1, true}};
    driver_offer(driver, 0, driver_chain(driver, 0, pieces, 4, false));
    driver_notify(driver, 0);
    assert_int_equal(status_of(driver, (struct ticket){.status = status}), S_OK);
    assert_data(fixture, data, fixture->disk + 5 * 512, 120);
    assert_data(fixture, data + 4096, fixture->disk + 5 * 512 + 120, 8192 - 120);
    assert_true(codes >= 4);
    for (u64 f = data >> PAGE_SHIFT; f < (data >> PAGE_SHIFT) + 4; f++)
        assert_true(pmap_flags(board->pmap, gfn(f)) & PMAP_DIRTY);
    assert_false(pmap_flags(board->pmap, gfn((data >> PAGE_SHIFT) + 4)) & PMAP_DIRTY);
    board->code_written = NULL;
}

/* ROM takes no data, and the request none of the memory beyond what is RAM. */
static void test_parts_in_rom(void **state)
{
    struct fixture *fixture = *state;
    struct driver *driver = &fixture->driver;
    struct board *board = &fixture->rig.board;
    driver_start(driver, F_FLUSH, 1);
    u64 header = driver_alloc(driver, 16), status = driver_alloc(driver, 1), data = 8 * MiB;
    const u64 words[2] = {T_IN, 5};
    u8 before[8192], after[8192];
    ram_write(board, gpa(header), words, 16);
    assert_true(pmap_set_rom(board->pmap, gpa(data + 4096), 4096, true));
    ram_read(board, gpa(data), before, sizeof(before));
    const struct piece pieces[] = {{header, 16, false}, {data, 8192, true}, {status, 1, true}};
    driver_offer(driver, 0, driver_chain(driver, 0, pieces, 3, false));
    driver_notify(driver, 0);
    assert_int_equal(status_of(driver, (struct ticket){.status = status}), S_OK);
    ram_read(board, gpa(data), after, sizeof(after));
    assert_memory_equal(after, fixture->disk + 5 * 512, 4096);
    assert_memory_equal(after + 4096, before + 4096, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_config),
        TEST(test_read_write),
        TEST(test_large),
        TEST(test_identify),
        TEST(test_errors),
        TEST(test_writethrough),
        TEST(test_many),
        TEST(test_bounded),
        TEST(test_ranges),
        TEST(test_reset),
        TEST(test_no_status),
#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_parts, teardown)
        TEST(test_read_write),
        TEST(test_errors),
        TEST(test_writethrough),
        TEST(test_many),
        TEST(test_ranges),
        TEST(test_reset),
        TEST(test_no_status),
        TEST(test_parts),
        TEST(test_parts_in_rom),
        cmocka_unit_test_setup_teardown(test_read_only, setup_read_only, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
