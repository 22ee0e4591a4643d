/* What a disk's back end does when the image fails: report, ignore, or wait for the machine. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/block/back.h"
#include "platform/board.h"

/* An image that fails as it is told. */
struct broken {
    struct image image;
    int error;
    unsigned tries;
    bool silent; /* does not answer until it is no more, or broken off */
    bool broken_off;
};

static int broken_do(struct image *image)
{
    struct broken *broken = container_of(image, struct broken, image);
    __atomic_add_fetch(&broken->tries, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&broken->silent, __ATOMIC_SEQ_CST)) {
        if (__atomic_load_n(&broken->broken_off, __ATOMIC_SEQ_CST))
            return EIO;
        usleep(1000);
    }
    return __atomic_load_n(&broken->error, __ATOMIC_SEQ_CST);
}
static int broken_read(struct image *image, u64 offset, void *buf, u64 len)
{
    memset(buf, 0x55, len);
    return broken_do(image);
}
static int broken_write(struct image *image, u64 offset, const void *buf, u64 len)
{
    return broken_do(image);
}
static void broken_off(struct image *image)
{
    struct broken *broken = container_of(image, struct broken, image);
    __atomic_store_n(&broken->broken_off, true, __ATOMIC_SEQ_CST);
}
static void broken_close(struct image *image) {}

static const struct image_ops broken_ops = {.read = broken_read,
                                            .write = broken_write,
                                            .flush = broken_do,
                                            .read_now = broken_read,
                                            .break_off = broken_off,
                                            .close = broken_close};

struct rig {
    struct board board;
    struct log log;
    struct broken broken;
    struct block_back *back;
    struct block_failure failure;
    unsigned failures;
    struct block_request request;
    u8 data[BLOCK_SECTOR];
    bool done;
};

static void failed(void *opaque, const struct block_failure *failure)
{
    struct rig *rig = opaque;
    rig->failure = *failure;
    rig->failures++;
}

static void done(struct block_request *request)
{
    container_of(request, struct rig, request)->done = true;
}

static struct rig *rig_create(enum block_action on_read, enum block_action on_write, int error)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    const struct block_policy policy = {
        .on_read = on_read, .on_write = on_write, .failed = failed, .opaque = rig};
    assert_non_null(rig);
    board_init(&rig->board, &rig->log);
    rig->broken = (struct broken){.image = {.ops = &broken_ops, .size = MiB}, .error = error};
    rig->back = block_back_create(&rig->board, &rig->broken.image, &policy);
    return rig;
}

static void rig_destroy(struct rig *rig)
{
    block_back_destroy(rig->back);
    board_destroy(&rig->board);
    free(rig);
}

static void start(struct rig *rig, enum block_op op)
{
    rig->request = (struct block_request){
        .op = op, .len = op == BLOCK_FLUSH ? 0 : BLOCK_SECTOR, .data = rig->data, .done = done};
    rig->done = false;
    board_lock(&rig->board);
    if (block_submit(block_back_block(rig->back), &rig->request))
        rig->done = true;
    board_unlock(&rig->board);
}

/* Waits until it is done or held, as long as a pause does. */
static bool settles(struct rig *rig)
{
    board_lock(&rig->board);
    bool settled = block_back_settle(rig->back);
    board_unlock(&rig->board);
    return settled;
}

/* The same, however long it takes on a busy host. */
static void settle(struct rig *rig)
{
    for (unsigned tries = 0; tries < 30; tries++)
        if (settles(rig))
            return;
    fail_msg("the disk does not settle");
}

static void submit(struct rig *rig, enum block_op op)
{
    start(rig, op);
    settle(rig);
}

static void test_report(void **state)
{
    struct rig *rig = rig_create(BLOCK_REPORT, BLOCK_REPORT, EIO);
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        submit(rig, ops[i]);
        assert_true(rig->done);
        assert_int_equal(rig->request.error, EIO);
        assert_int_equal(rig->failures, i + 1);
        assert_int_equal(rig->failure.action, BLOCK_REPORT);
        assert_int_equal(rig->failure.error, EIO);
        assert_int_equal(rig->failure.write, ops[i] != BLOCK_READ);
    }
    rig_destroy(rig);
}

static void test_ignore(void **state)
{
    struct rig *rig = rig_create(BLOCK_IGNORE, BLOCK_IGNORE, EIO);
    submit(rig, BLOCK_WRITE);
    assert_true(rig->done);
    assert_int_equal(rig->request.error, 0);
    assert_int_equal(rig->failures, 1);
    rig_destroy(rig);
}

static void test_stop_and_try_again(void **state)
{
    static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        struct rig *rig = rig_create(BLOCK_STOP, BLOCK_STOP, EIO);
        submit(rig, ops[i]);
        assert_false(rig->done);
        assert_int_equal(rig->failure.action, BLOCK_STOP);
        /* Still broken: it waits again. */
        board_lock(&rig->board);
        board_close(&rig->board);
        board_open(&rig->board);
        board_unlock(&rig->board);
        settle(rig);
        assert_false(rig->done);
        assert_int_equal(rig->failures, 2);
        __atomic_store_n(&rig->broken.error, 0, __ATOMIC_SEQ_CST);
        board_lock(&rig->board);
        board_open(&rig->board);
        board_unlock(&rig->board);
        settle(rig);
        assert_true(rig->done);
        assert_int_equal(rig->request.error, 0);
        rig_destroy(rig);
    }
}

static void test_stop_if_full(void **state)
{
    struct rig *rig = rig_create(BLOCK_REPORT, BLOCK_STOP_IF_FULL, EIO);
    submit(rig, BLOCK_WRITE);
    assert_true(rig->done);
    assert_int_equal(rig->request.error, EIO);
    rig->broken.error = ENOSPC;
    submit(rig, BLOCK_WRITE);
    assert_false(rig->done);
    assert_int_equal(rig->failure.action, BLOCK_STOP);
    /* The device goes: its request ends as it failed. */
    board_lock(&rig->board);
    block_drain(block_back_block(rig->back));
    board_unlock(&rig->board);
    assert_true(rig->done);
    assert_int_equal(rig->request.error, ENOSPC);
    rig_destroy(rig);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A pause does not wait for ever, and nothing reaches the device while it lasts. */
static void test_silence_and_pause(void **state)
{
    struct rig *rig = rig_create(BLOCK_REPORT, BLOCK_REPORT, 0);
    rig->broken.silent = true;
    start(rig, BLOCK_WRITE);
    board_lock(&rig->board);
    board_close(&rig->board);
    board_unlock(&rig->board);
    double began = seconds();
    assert_false(settles(rig));
    assert_in_range((int)(seconds() - began), 2, 60);
    __atomic_store_n(&rig->broken.silent, false, __ATOMIC_SEQ_CST);
    usleep(100000);
    board_lock(&rig->board);
    assert_false(rig->done);
    board_open(&rig->board);
    board_unlock(&rig->board);
    settle(rig);
    assert_true(rig->done);
    assert_int_equal(rig->request.error, 0);
    assert_false(rig->broken.broken_off);
    rig_destroy(rig);
}

/* What must end waits longer, and then breaks the requests off. */
static void test_silence_and_the_end(void **state)
{
    struct rig *rig = rig_create(BLOCK_REPORT, BLOCK_REPORT, 0);
    rig->broken.silent = true;
    start(rig, BLOCK_WRITE);
    double began = seconds();
    board_lock(&rig->board);
    block_drain(block_back_block(rig->back));
    board_unlock(&rig->board);
    assert_in_range((int)(seconds() - began), 9, 100);
    assert_true(rig->done);
    assert_int_equal(rig->request.error, EIO);
    rig_destroy(rig);
}

/* Many at once, of each kind: each is done once, by however many threads. */
#define MANY 500

struct many {
    struct block_request requests[MANY];
    u8 data[BLOCK_SECTOR];
    unsigned done;
};

static void one_done(struct block_request *request)
{
    struct many *many =
        request->data ? container_of(request->data, struct many, data[0]) : NULL;
    assert_non_null(many);
    many->done++;
}

static void test_many(void **state)
{
    static const enum block_op ops[] = {BLOCK_WRITE, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_WRITE};
    struct rig *rig = rig_create(BLOCK_REPORT, BLOCK_REPORT, 0);
    struct many *many = calloc(1, sizeof(*many));
    assert_non_null(many);
    for (unsigned round = 0; round < 20; round++) {
        many->done = 0;
        for (unsigned i = 0; i < MANY; i++) {
            many->requests[i] = (struct block_request){.op = ops[(i + round) % 4],
                                                       .len = BLOCK_SECTOR,
                                                       .data = many->data,
                                                       .done = one_done};
            board_lock(&rig->board);
            block_submit(block_back_block(rig->back), &many->requests[i]);
            board_unlock(&rig->board);
            if (i % 100 == round)
                usleep(200);
        }
        settle(rig);
        assert_int_equal(many->done, MANY);
    }
    assert_int_equal(rig->broken.tries, 20 * MANY);
    rig_destroy(rig);
    free(many);
}

/* What monitors are told of it, failures apart. */
static void test_statistics(void **state)
{
    struct rig *rig = rig_create(BLOCK_REPORT, BLOCK_REPORT, 0);
    const struct block_stats *stats = block_back_stats(rig->back);
    submit(rig, BLOCK_READ);
    submit(rig, BLOCK_WRITE);
    submit(rig, BLOCK_FLUSH);
    assert_int_equal(stats->read.operations, 1);
    assert_int_equal(stats->read.bytes, BLOCK_SECTOR);
    assert_int_equal(stats->write.operations, 1);
    assert_int_equal(stats->highest, BLOCK_SECTOR);
    assert_int_equal(stats->flush.operations, 1);
    rig->broken.error = EIO;
    submit(rig, BLOCK_WRITE);
    assert_int_equal(stats->write.failed, 1);
    assert_int_equal(stats->write.bytes, BLOCK_SECTOR);
    rig_destroy(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_silence_and_pause),
        cmocka_unit_test(test_silence_and_the_end),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_ignore),
        cmocka_unit_test(test_stop_and_try_again),
        cmocka_unit_test(test_stop_if_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
