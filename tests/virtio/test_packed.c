/* Packed virtqueues (virtio 1.2, 2.8): rounds, lists, indirect tables, event suppression,
 * malice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "device/virtio/ring.h"
#include "driver.h"

#define SIZE   5 /* no power of two: 2.8.10.1 */
#define RING   0x10000ull
#define DRIVER 0x11000ull
#define DEVICE 0x12000ull
#define TABLE  0x13000ull
#define DATA   0x20000ull

#define AVAIL BIT(7)
#define USED  BIT(15)

struct desc {
    u64 addr;
    u32 len;
    u16 id, flags;
};

/* The driver's side of one queue. */
struct packed {
    struct rig rig;
    struct virtq queue;
    unsigned next; /* to offer, and to look at: never modulo anything */
    unsigned seen;
};

static u16 round_flags(unsigned n)
{
    return n / SIZE % 2 ? USED : AVAIL;
}

static void put_desc(struct packed *p, u64 at, struct desc desc)
{
    ram_write(&p->rig.board, gpa(at), &desc, sizeof(desc));
}

static void offer(struct packed *p, u16 id, u64 addr, u32 len, u16 flags)
{
    struct desc desc = {addr, len, id, (u16)(flags | round_flags(p->next))};
    put_desc(p, RING + p->next++ % SIZE * 16, desc);
}

/* The next used descriptor; `slots` is what its list had. */
static bool take_used(struct packed *p, unsigned slots, struct desc *desc)
{
    ram_read(&p->rig.board, gpa(RING + p->seen % SIZE * 16), desc, sizeof(*desc));
    bool expected = p->seen / SIZE % 2 == 0;
    if (!(desc->flags & AVAIL) == expected || !(desc->flags & USED) == expected)
        return false;
    p->seen += slots;
    return true;
}

static void suppress(struct packed *p, u16 place, u16 flags)
{
    const u16 words[] = {place, flags};
    ram_write(&p->rig.board, gpa(DRIVER), words, sizeof(words));
}

static int setup(void **state)
{
    static struct packed packed;
    memset(&packed, 0, sizeof(packed));
    rig_init(&packed.rig);
    board_lock(&packed.rig.board);
    virtq_create(&packed.queue, &packed.rig.board);
    packed.queue.size = SIZE;
    packed.queue.descriptors = RING;
    packed.queue.driver = DRIVER;
    packed.queue.device_area = DEVICE;
    packed.queue.packed = packed.queue.event_index = true;
    assert_true(virtq_enable(&packed.queue));
    *state = &packed;
    return 0;
}

static int teardown(void **state)
{
    struct packed *p = *state;
    board_unlock(&p->rig.board);
    rig_destroy(&p->rig);
    return 0;
}

/* Lists of one to three descriptors, over many rounds and both wrap counters. */
static void test_rounds(void **state)
{
    struct packed *p = *state;
    struct virtq_chain chain;
    struct desc used;
    for (unsigned i = 0; i < 100; i++) {
        unsigned slots = 1 + i % 3;
        assert_false(virtq_waiting(&p->queue));
        for (unsigned k = 0; k < slots; k++)
            offer(p, (u16)(k + 1 == slots ? i : 999), DATA + 64 * k, 16,
                  (u16)(k + 1 == slots ? 2 : 1));
        assert_true(virtq_waiting(&p->queue));
        assert_true(virtq_pop(&p->queue, &chain));
        assert_int_equal(chain.n_out, slots - 1);
        assert_int_equal(chain.out_len, 16 * (slots - 1));
        assert_int_equal(chain.in_len, 16);
        assert_false(virtq_pop(&p->queue, &chain));
        assert_false(take_used(p, slots, &used));
        virtq_push(&chain, i % 2 ? 7 : 0);
        assert_true(take_used(p, slots, &used));
        assert_int_equal(used.id, i);
        assert_int_equal(used.len, i % 2 ? 7 : 0);
        assert_int_equal(used.flags & 2, i % 2 ? 2 : 0); /* 2.8.5: something was written */
    }
}

static void test_out_of_order(void **state)
{
    struct packed *p = *state;
    struct virtq_chain first, second;
    struct desc used;
    offer(p, 1, DATA, 4, 1);
    offer(p, 1, DATA, 4, 2);
    offer(p, 2, DATA, 4, 0);
    assert_true(virtq_pop(&p->queue, &first));
    struct virtq_mark mark = virtq_mark(&p->queue);
    assert_true(virtq_pop(&p->queue, &second));
    virtq_rewind(&p->queue, mark);
    assert_true(virtq_pop(&p->queue, &second));
    virtq_push(&second, 0);
    assert_true(take_used(p, 1, &used));
    assert_int_equal(used.id, 2);
    virtq_push(&first, 0);
    assert_true(take_used(p, 2, &used));
    assert_int_equal(used.id, 1);
}

/* Several at once are seen together: the first one's flags come last. */
static void test_staged(void **state)
{
    struct packed *p = *state;
    struct virtq_chain chain[2];
    struct desc used;
    for (u16 i = 0; i < 2; i++) {
        offer(p, i, DATA, 4, 2);
        assert_true(virtq_pop(&p->queue, &chain[i]));
        virtq_stage(&chain[i], i, i + 1u);
    }
    assert_false(take_used(p, 1, &used));
    virtq_publish(&p->queue, 2);
    for (u16 i = 0; i < 2; i++) {
        assert_true(take_used(p, 1, &used));
        assert_int_equal(used.len, i + 1);
    }
}

static void test_indirect(void **state)
{
    struct packed *p = *state;
    struct virtq_chain chain;
    /* AVAIL, USED, NEXT and ids mean nothing in a table. */
    put_desc(p, TABLE, (struct desc){DATA, 3, 77, 0});
    put_desc(p, TABLE + 16, (struct desc){DATA + 8, 4, 78, 1});
    put_desc(p, TABLE + 32, (struct desc){DATA + 16, 5, 79, 2 | AVAIL});
    offer(p, 9, TABLE, 48, 4);
    assert_true(virtq_pop(&p->queue, &chain));
    assert_int_equal(chain.head, 9);
    assert_int_equal(chain.out_len, 7);
    assert_int_equal(chain.in_len, 5);
    assert_int_equal(chain.slots, 1);
}

static void serve(struct packed *p)
{
    struct virtq_chain chain;
    struct desc used;
    offer(p, 0, DATA, 4, 0);
    assert_true(virtq_pop(&p->queue, &chain));
    virtq_push(&chain, 0);
    assert_true(take_used(p, 1, &used));
}

static void test_driver_events(void **state)
{
    struct packed *p = *state;
    suppress(p, 0, 0);
    serve(p);
    assert_true(virtq_wants_interrupt(&p->queue));
    suppress(p, 0, 1);
    serve(p);
    assert_false(virtq_wants_interrupt(&p->queue));
    /* At each place of the next rounds, exactly there. */
    for (unsigned n = 2; n < 30; n += 3) {
        unsigned event = n + 1;
        suppress(p, (u16)(event % SIZE | (event / SIZE % 2 ? 0 : BIT(15))), 2);
        for (unsigned k = 0; k < 3; k++) {
            serve(p);
            assert_int_equal(virtq_wants_interrupt(&p->queue), k == 1);
        }
    }
    suppress(p, SIZE, 2); /* no such place: better one too many */
    serve(p);
    assert_true(virtq_wants_interrupt(&p->queue));
}

static void test_device_events(void **state)
{
    struct packed *p = *state;
    u16 words[2];
    virtq_want_notify(&p->queue, false);
    ram_read(&p->rig.board, gpa(DEVICE), words, 4);
    assert_int_equal(words[1], 1);
    for (unsigned i = 0; i < 7; i++)
        serve(p);
    assert_false(virtq_want_notify(&p->queue, true));
    ram_read(&p->rig.board, gpa(DEVICE), words, 4);
    assert_int_equal(words[1], 2);
    assert_int_equal(words[0], 2); /* the eighth, in the second round */
    offer(p, 0, DATA, 4, 0);
    assert_true(virtq_want_notify(&p->queue, true));
}

/* -- Malice -------------------------------------------------------------------------------- */

static void bad_long_list(struct packed *p)
{
    for (unsigned i = 0; i < SIZE; i++)
        offer(p, 0, DATA, 4, 1);
}

static void bad_order(struct packed *p)
{
    offer(p, 0, DATA, 4, 1 | 2);
    offer(p, 0, DATA, 4, 0);
}

static void bad_indirect_in_list(struct packed *p)
{
    offer(p, 0, DATA, 4, 1);
    offer(p, 0, TABLE, 16, 4);
}

static void bad_indirect_next(struct packed *p)
{
    offer(p, 0, TABLE, 16, 4 | 1);
}

static void bad_nested(struct packed *p)
{
    put_desc(p, TABLE, (struct desc){TABLE, 16, 0, 4});
    offer(p, 0, TABLE, 16, 4);
}

static void bad_odd_table(struct packed *p)
{
    offer(p, 0, TABLE, 17, 4);
}

static void bad_long_table(struct packed *p)
{
    offer(p, 0, TABLE, 16 * (SIZE + 1), 4);
}

static void bad_table_place(struct packed *p)
{
    offer(p, 0, ~0ull - 64, 16, 4);
}

static void bad_wrap(struct packed *p)
{
    offer(p, 0, ~0ull, 16, 0);
}

/* A driver that takes its descriptors back, and offers them again, before they are used. */
static void bad_reuse(struct packed *p)
{
    struct virtq_chain chain;
    for (unsigned i = 0; i < SIZE; i++) {
        offer(p, 0, DATA, 4, 0);
        assert_true(virtq_pop(&p->queue, &chain));
    }
    offer(p, 0, DATA, 4, 0);
}

static void test_malice(void **state)
{
    static void (*const bad[])(struct packed *) = {
        bad_long_list, bad_order,      bad_indirect_in_list, bad_indirect_next, bad_nested,
        bad_odd_table, bad_long_table, bad_table_place,      bad_wrap,          bad_reuse};
    struct packed *p = *state;
    struct virtq_chain chain;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        u8 zero[SIZE * 16] = {0};
        struct virtq fresh = p->queue;
        ram_write(&p->rig.board, gpa(RING), zero, sizeof(zero));
        p->next = p->seen = 0;
        bad[i](p);
        assert_false(virtq_pop(&p->queue, &chain));
        assert_true(p->queue.broken);
        assert_false(virtq_waiting(&p->queue));
        p->queue = fresh;
    }
}

static void test_shape(void **state)
{
    struct packed *p = *state;
    struct virtq *queue = &p->queue;
    static const struct {
        u16 size;
        u64 ring, driver, device;
        bool good;
    } shapes[] = {{1, RING, DRIVER, DEVICE, true},      {256, RING, DRIVER, DEVICE, true},
                  {0, RING, DRIVER, DEVICE, false},     {257, RING, DRIVER, DEVICE, false},
                  {4, RING + 8, DRIVER, DEVICE, false}, {4, RING, DRIVER + 2, DEVICE, false},
                  {4, RING, DRIVER, DEVICE + 2, false}};
    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        virtq_reset(queue);
        queue->packed = true;
        queue->size = shapes[i].size;
        queue->descriptors = shapes[i].ring;
        queue->driver = shapes[i].driver;
        queue->device_area = shapes[i].device;
        assert_int_equal(virtq_enable(queue), shapes[i].good);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rounds),   TEST(test_out_of_order),  TEST(test_staged),
        TEST(test_indirect), TEST(test_driver_events), TEST(test_device_events),
        TEST(test_malice),   TEST(test_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
