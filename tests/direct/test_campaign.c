/* Attacks on cells that last: while the mapper works, from several cells at once, and where the
 * host has nothing left to give. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "fixture.h"
#include "probe.h"

#define VICTIM 0xb00000ull

static void *run_thread(void *opaque)
{
    struct fixture *f = opaque;
    cell_run(&f->cell, f->cpu, &f->stop);
    return NULL;
}

static void put_code(struct fixture *f, const u8 *code, u64 size)
{
    memcpy(f->ram + 0x400, code, size);
}

/* The addresses in the cell that /proc shows at `va`. */
static bool is_mapped(const struct cell *cell, u64 va)
{
    char path[64], line[512];
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)cell->pid);
    FILE *maps = fopen(path, "r");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        char *rest;
        u64 start = strtoull(line, &rest, 16);
        found |= va >= start && va < strtoull(rest + 1, NULL, 16);
    }
    fclose(maps);
    return found;
}

/* Guest code overwrites all that it can, but for the word that says that it stopped, while the
 * mapper works: every order is done, and none else. */
static void test_mapper_under_fire(void **state)
{
    struct fixture *f = *state;
    const u8 fire[] = {0x48, 0x89, 0xf7, 0x48, 0x89, 0xd9, 0xf3,
                       0xaa, 0x04, 0x3b, 0xeb, 0xf4}; /* rep stosb over and over, AL changing */
    const u64 first = fixture_control(CONTROL_SIGNAL);
    struct mapper *m = &f->cell.mapper;
    pthread_t thread;
    put_code(f, fire, sizeof(fire));
    fixture_registers(f, CODE + 0x400);
    f->cpu->gpr[RSI] = first;
    f->cpu->gpr[RBX] = BASE + CELL_TABLE_PAGE * PAGE_SIZE - first;
    f->cell.control->started = 0;
    pthread_create(&thread, NULL, run_thread, f);
    /* The stub's word, then the guest's: the cell has had its turn, and the mapper is free. */
    while (!*(volatile u64 *)&f->cell.control->started)
        usleep(1000);
    for (unsigned i = 0; i < 2000; i++) {
        mapper_map(m, VICTIM, 1, FIXED_PAGE * PAGE_SIZE, PROT_READ);
        if (i % 2)
            mapper_unmap(m, VICTIM, 1);
        assert_int_equal(mapper_run(m), 1 + i % 2);
        if (i % 100 < 2)
            assert_int_equal(is_mapped(&f->cell, VICTIM), !(i % 2));
    }
    assert_false(is_mapped(&f->cell, VICTIM + PAGE_SIZE));
    cell_condemn(&f->cell);
    pthread_join(thread, NULL);
    fixture_drop(f);
    fixture_cell(f);
}

/* -- Several cells of one address space ---------------------------------------------------- */

static void test_racing_cells(void **state)
{
    static struct fixture other;
    struct fixture *f = *state;
    const u8 forge[] = {0x87, 0x07, 0xf0, 0x48, 0xff,
                        0x06, 0xeb, 0xfa}; /* xchg [rdi], eax; lock inc qword [rsi]; jmp */
    other = *f;                            /* the same guest memory and zygote */
    other.cpu = aligned_alloc(64, align_up(sizeof(*other.cpu), 64));
    fixture_cell(&other);
    struct fixture *both[] = {f, &other};
    volatile u64 *count = (u64 *)(f->ram + DATA_PAGE * PAGE_SIZE);
    put_code(f, forge, sizeof(forge));
    for (unsigned i = 0; i < 2; i++) {
        fixture_registers(both[i], 0);
        assert_int_equal(fixture_run(both[i], CODE_SYSCALL), CELL_STOPPED);
        fixture_registers(both[i], 0);
        both[i]->cpu->gpr[RDI] = fixture_control(CONTROL_MTURN);
        both[i]->cpu->gpr[RSI] = DATA;
        both[i]->cpu->gpr[RAX] = 1;
        assert_int_equal(fixture_run(both[i], CODE + 0x400), CELL_STOPPED);
    }
    /* Both say that they stopped, and both write, once they have a processor. The page is taken
     * from them: no store after the second report. */
    fixture_await_count(f);
    for (unsigned i = 0; i < 2; i++) {
        mapper_unmap(&both[i]->cell.mapper, DATA, 1);
        assert_int_equal(mapper_run(&both[i]->cell.mapper), 1);
    }
    u64 before = *count;
    assert_true(before > 0);
    usleep(20000);
    assert_int_equal(before, *count);
    fixture_drop(&other);
    free(other.cpu);
}

/* -- Exhaustion ---------------------------------------------------------------------------- */

/* With fewer and fewer descriptors or less address space a cell is refused, and nothing is lost
 * for later ones. */
static void test_nothing_left(void **state)
{
    static const int what[] = {RLIMIT_NOFILE, RLIMIT_AS};
    struct fixture *f = *state;
    int before = dup(0);
    close(before);
    for (unsigned i = 0; i < 2 * 8; i++) {
        struct rlimit old, less;
        struct error err;
        struct cell cell;
        assert_int_equal(getrlimit(what[i % 2], &old), 0);
        less = (struct rlimit){i % 2 ? PAGE_SIZE : (u64)before + i / 2, old.rlim_max};
        assert_int_equal(setrlimit(what[i % 2], &less), 0);
        bool made = cell_create(&cell, &f->zygote, BASE, false, &err);
        assert_int_equal(setrlimit(what[i % 2], &old), 0);
        if (made)
            cell_destroy(&cell);
        else
            assert_true(strlen(err.text) > 0);
        assert_true(i || !made);
        int after = dup(0);
        close(after);
        assert_int_equal(before, after);
    }
    fixture_drop(f);
    fixture_cell(f);
    fixture_registers(f, 0);
    assert_int_equal(fixture_run(f, CODE_SYSCALL), CELL_STOPPED);
}

int main(void)
{
    if (!probe_direct())
        return 77;
    const struct CMUnitTest tests[] = {
        CELL_TEST(test_mapper_under_fire),
        CELL_TEST(test_racing_cells),
        CELL_TEST(test_nothing_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
