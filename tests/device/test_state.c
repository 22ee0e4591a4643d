/*
 * Every class's field table, at once: a board is shaken, each device saved, the record loaded
 * into the same device of a fresh board, and both must agree in every field and print the same.
 * Cut and foreign records must be refused; random ones may be, but never break anything.
 */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static u64 random_next(u64 *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return *seed >> 32 | *seed << 32;
}

struct shaken {
    struct fixture *f;
    struct full_board full;
};

static struct shaken *shaken_create(u64 seed, unsigned pokes)
{
    struct shaken *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->f = fixture_create(2);
    fixture_add_ram(s->f, 4 * MiB);
    full_board_init(&s->full, s->f);
    for (unsigned i = 0; i < pokes; i++) {
        u64 what = random_next(&seed);
        full_board_poke(&s->full, s->f, (u32)what, (u32)(what >> 32), random_next(&seed));
    }
    return s;
}

static void shaken_destroy(struct shaken *s)
{
    fixture_destroy(s->f);
    full_board_destroy(&s->full);
    free(s);
}

static void check_one(const struct device *from, struct device *to)
{
    struct device_buffer record = {0};
    char a[8192], b[8192];
    device_save(from, &record);
    size_t loaded = device_load(to, record.data, record.len);
    if (loaded != record.len)
        fail_msg("%s refuses its own state", from->class->name);
    const struct field *differs = device_compare(from->class, from->state, to->state);
    if (differs)
        fail_msg("%s.%s differs after load", from->class->name, differs->name);
    assert_in_range(device_print(from, a, sizeof(a)), 0, sizeof(a) - 1);
    device_print(to, b, sizeof(b));
    assert_string_equal(a, b);
    /* A VGA has 16 MiB. */
    for (size_t len = 0; len < record.len; len += 1 + record.len / 100000)
        assert_int_equal(device_load(to, record.data, len), 0);
    device_buffer_free(&record);
}

static void test_save_load_compare(void **state)
{
    for (u64 seed = 1; seed <= 20; seed++) {
        struct shaken *one = shaken_create(seed, 2000), *two = shaken_create(0, 0);
        two->f->now = one->f->now;
        struct device *to = two->f->board.devices;
        for (struct device *from = one->f->board.devices; from; from = from->next) {
            check_one(from, to);
            to = to->next;
        }
        shaken_destroy(one);
        shaken_destroy(two);
    }
}

static void test_foreign_records_are_refused(void **state)
{
    struct shaken *s = shaken_create(1, 100);
    for (struct device *a = s->f->board.devices; a; a = a->next) {
        struct device_buffer record = {0};
        device_save(a, &record);
        for (struct device *b = s->f->board.devices; b; b = b->next)
            if (a != b)
                assert_int_equal(device_load(b, record.data, record.len), 0);
        device_buffer_free(&record);
    }
    shaken_destroy(s);
}

/* The payload is hostile: whatever loads must be safe to use. */
static void test_random_payloads(void **state)
{
    u64 seed = 42;
    for (unsigned round = 0; round < 200; round++) {
        struct shaken *s = shaken_create(round, 50);
        for (struct device *d = s->f->board.devices; d; d = d->next) {
            struct device_buffer record = {0};
            device_save(d, &record);
            size_t header = 16 + strlen(d->class->name);
            for (size_t i = header; i < record.len; i += 1 + record.len / 100000)
                if (random_next(&seed) % 4 == 0)
                    record.data[i] = (u8)random_next(&seed);
            if (!device_load(d, record.data, record.len) && d->class->reset)
                d->class->reset(d->state);
            device_buffer_free(&record);
        }
        for (unsigned i = 0; i < 300; i++) {
            u64 what = random_next(&seed);
            full_board_poke(&s->full, s->f, (u32)what, (u32)(what >> 32), random_next(&seed));
        }
        shaken_destroy(s);
    }
}

/* A reset board is as good as new: every field as on a fresh one but what survives by
 * design. */
static void test_reset(void **state)
{
    static const char *const survives[] = {"rtc", "pit", "acpi-pm", "apic-bus", "serial"};
    struct shaken *one = shaken_create(7, 2000), *two = shaken_create(0, 0);
    two->f->now = one->f->now;
    devices_reset(&one->f->board);
    devices_reset(&two->f->board);
    struct device *to = two->f->board.devices;
    for (struct device *from = one->f->board.devices; from; from = from->next, to = to->next) {
        bool skip = false;
        for (unsigned i = 0; i < ARRAY_LEN(survives); i++)
            skip = skip || !strcmp(from->class->name, survives[i]);
        const struct field *differs = device_compare(from->class, from->state, to->state);
        if (differs && !skip && !strstr(differs->name, "level") &&
            !strstr(differs->name, "lint"))
            fail_msg("%s.%s differs after reset", from->class->name, differs->name);
    }
    shaken_destroy(one);
    shaken_destroy(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_load_compare),
        cmocka_unit_test(test_foreign_records_are_refused),
        cmocka_unit_test(test_random_payloads),
        cmocka_unit_test(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
