/*
 * What the translator counts, as rows for `-stats` (docs/translator.md). Every entry of C code
 * from a translation is in one row of the group `callouts`, by its reason, and the stubs count
 * them once more as a whole: the rows sum to that.
 */
#include <stdio.h>
#include <x86intrin.h>

#include "base/monotonic.h"
#include "engine/bt/bt.h"

/* Monotonic nanoseconds that the host's counter takes that long for. */
static u64 nanoseconds(const struct bt *bt, u64 cycles)
{
    u64 passed = __rdtsc() - bt->stats.began.tsc;
    double share = passed ? (double)cycles / (double)passed : 0;
    return (u64)(share * (double)(monotonic_ns() - bt->stats.began.ns));
}

struct rows {
    struct engine_counter *counters;
    unsigned n, max;
};

static void put(struct rows *rows, const struct engine_counter *counters, unsigned n)
{
    for (unsigned i = 0; i < n && rows->n < rows->max; i++)
        rows->counters[rows->n++] = counters[i];
}

/* Does instruction `a` come before `b` in a list of reasons? */
static bool is_more(const u64 *reasons, unsigned a, unsigned b)
{
    return reasons[a] > reasons[b] || (reasons[a] == reasons[b] && a < b);
}

static u64 sum(const u64 *reasons)
{
    u64 total = 0;
    for (unsigned m = 0; m < BT_REASONS; m++)
        total += reasons[m];
    return total;
}

/* The instructions that were callouts, those with most first, each a row (law 2). Where there
 * is no room for all, the last row has the rest. */
static void put_reasons(struct rows *rows, const char *group, const u64 *reasons)
{
    unsigned last = BT_REASONS;
    u64 rest = sum(reasons);
    while (rest && rows->n < rows->max) {
        unsigned best = BT_REASONS;
        for (unsigned m = 0; m < BT_REASONS; m++) {
            if (reasons[m] && (last == BT_REASONS || is_more(reasons, last, m)) &&
                (best == BT_REASONS || is_more(reasons, m, best)))
                best = m;
        }
        bool full = rows->n + 1 == rows->max && reasons[best] != rest;
        u64 value = full ? rest : reasons[best];
        const char *name = full ? "others" : ZydisMnemonicGetString((ZydisMnemonic)best);
        struct engine_counter *row = &rows->counters[rows->n++];
        snprintf(row->name, sizeof(row->name), "%s.%s", group, name);
        row->value = value;
        rest -= value;
        last = best;
    }
}

static void put_translations(struct rows *rows, const struct bt *bt)
{
    u64 ns = nanoseconds(bt, bt->stats.cycles);
    const struct engine_counter all[] = {
        {"translation_units_64bit", bt->stats.tus[2]},
        {"translation_units_32bit", bt->stats.tus[1]},
        {"translation_units_16bit", bt->stats.tus[0]},
        {"guest_instructions", bt->stats.insns},
        {"guest_bytes", bt->stats.guest_bytes},
        {"host_bytes", bt->stats.host_bytes},
        {"translation_ns", ns},
        {"translation_ns_per_instruction", ns / (bt->stats.timed ? bt->stats.timed : 1)},
        {"cache_flushes", bt->stats.flushes},
        {"cache_evictions", bt->stats.evictions},
        {"code_pages_dropped", bt->stats.page_drops},
        {"code_lines_dropped", bt->stats.line_drops},
        {"code_units_dropped", bt->stats.tus_dropped},
    };
    put(rows, all, ARRAY_LEN(all));
}

static void put_events(struct rows *rows, const struct bt *bt)
{
    const struct engine_counter all[] = {
        {"slow_accesses", bt->stats.slow_accesses},
        {"bounced_loads", bt->stats.bounced_loads},
        {"bounced_stores", bt->stats.bounced_stores},
        {"sites_adapted", bt->stats.adapted},
        {"sites_unadapted", bt->stats.unadapted},
        {"yields", bt->stats.yields},
        {"steps", bt->stats.steps},
        {"host_faults", bt->stats.host_faults},
        {"flags_recovered", bt->stats.flags_recovered},
        {"flags_settled", bt->stats.flags_settled},
        {"flags_unknown", bt->stats.flags_unknown},
    };
    put(rows, all, ARRAY_LEN(all));
}

static void put_tlb(struct rows *rows, const struct bt *bt)
{
    u64 misses = bt->stats.fills + bt->stats.two_pages + bt->stats.beside_code +
                 bt->stats.slow_accesses + bt->stats.careful;
    u64 checks = bt->hot->checks;
    const struct engine_counter all[] = {
        {"tlb_hits", checks > misses ? checks - misses : 0},
        {"tlb_misses", misses},
    };
    /* Hits are known only where translations count them. */
    put(rows, bt->counts ? all : all + 1, bt->counts ? 2 : 1);
}

static void put_callouts(struct rows *rows, const struct bt *bt)
{
    const struct engine_counter all[] = {
        {"callouts", bt->hot->callouts},
        {"simulated_callouts", sum(bt->stats.simulated)},
        {"quick_callouts", sum(bt->stats.quick)},
        {"callouts.link", bt->stats.link_misses},
        {"callouts.cell", bt->stats.cell_misses},
        {"callouts.indirect", bt->stats.indirect_misses},
        {"callouts.tlb_fill", bt->stats.fills},
        {"callouts.two_pages", bt->stats.two_pages},
        {"callouts.beside_code", bt->stats.beside_code},
        {"callouts.slow_access", bt->stats.slow_accesses},
        {"callouts.shared_check", bt->stats.careful},
        {"callouts.page_crossing", bt->stats.page_crossing},
        {"callouts.stop", bt->stats.stops},
    };
    put(rows, all, ARRAY_LEN(all));
    put_reasons(rows, "callouts.simulated", bt->stats.simulated);
    put_reasons(rows, "callouts.quick", bt->stats.quick);
}

unsigned bt_counters(struct vcpu *vcpu, struct engine_counter *counters, unsigned max)
{
    const struct bt *bt = bt_of(vcpu);
    struct rows rows = {.counters = counters, .max = max};
    put_translations(&rows, bt);
    put_events(&rows, bt);
    put_tlb(&rows, bt);
    put_callouts(&rows, bt);
    return rows.n;
}
