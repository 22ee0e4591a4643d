/* The engine's table: life, entering, and the ops that tell the translator what the guest does
 * to its address translations. See bt.h. */
#include "engine/bt/bt.h"

#include <cpuid.h>
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "memory/pmap.h"

/* -- Life
 * ---------------------------------------------------------------------------------------
 */

static bool bt_probe(struct error *why)
{
    unsigned eax, ebx, ecx, edx;
    /* HWCAP2_FSGSBASE: user code may set its GS base. */
    if (!(getauxval(AT_HWCAP2) & BIT(1)))
        return error_set(why, "this kernel does not let programs write their GS base");
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    if (!(ebx & bit_BMI))
        return error_set(why, "this processor has no BMI1");
    if (!__builtin_cpu_supports("avx"))
        return error_set(why, "this processor has no AVX");
    return true;
}

static void bt_free(struct bt *bt)
{
    cache_destroy(bt);
    free(bt);
}

static bool bt_make(struct vcpu *vcpu, struct error *err)
{
    struct bt *bt = calloc(1, sizeof(*bt));
    if (!bt)
        return error_set(err, "out of memory");
    bt->vcpu = vcpu;
    if (!cache_create(bt, err)) {
        bt_free(bt);
        return false;
    }
    stubs_make(bt);
    guest_decoder_init(&bt->decoder, vcpu->cpu.model);
    cache_flush(bt);
    bt->hot->vectors = VECTORS_HOME;
    bt->code_limit[0] = UINT32_MAX;
    bt->code_limit[1] = UINT16_MAX;
    bt->n_code_limits = 2;
    bt->indirect_entered = MODE_NONE;
    ops_make(&bt->ops);
    bt->trap.handle = fault_handle;
    vcpu->engine_state = bt;
    return true;
}

static void bt_kick(struct vcpu *vcpu)
{
    struct bt *bt = bt_of(vcpu);
    __atomic_store_n(&bt->hot->poll, bt->hot->poll_trap, __ATOMIC_SEQ_CST);
}

static void faulting(struct x86_cpu *c)
{
    flags_expose(bt_of(container_of(c, struct vcpu, cpu)));
}

static bool bt_attach(struct vcpu *vcpu, struct error *err)
{
    if (!bt_make(vcpu, err))
        return false;
    if (!sim_create(vcpu, err)) {
        bt_free(bt_of(vcpu));
        return false;
    }
    vcpu->cpu.ops = &bt_of(vcpu)->ops;
    vcpu->sim->faulting = faulting;
    vcpu_set_kick(vcpu, bt_kick);
    trap_install();
    if (trap_enter(&bt_of(vcpu)->trap, err))
        return true;
    sim_destroy(vcpu);
    bt_free(bt_of(vcpu));
    return false;
}

static void bt_detach(struct vcpu *vcpu)
{
    trap_leave();
    vcpu_set_kick(vcpu, NULL);
    sim_destroy(vcpu);
    bt_free(bt_of(vcpu));
    vcpu->engine_state = NULL;
}

/* -- Running
 * ------------------------------------------------------------------------------------
 */

static enum engine_exit bt_enter(struct vcpu *vcpu)
{
    struct bt *bt = bt_of(vcpu);
    __asm__ volatile("wrgsbase %0" : : "r"(&vcpu->cpu));
    bt->hot->resume = (u64)dispatch(bt);
    if (bt->hot->resume)
        bt->stubs.enter();
    return bt->exit;
}

static void bt_code_written(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    const u8 *page = pmap_page(vcpu->board->pmap, frame);
    if (page)
        cache_drop_lines(bt_of(vcpu), page, lines);
    sim_code_written(vcpu, frame, lines);
}

/* Does instruction `a` come before `b` in the list of reasons? */
static bool is_more(const struct bt *bt, unsigned a, unsigned b)
{
    u64 n = bt->stats.reasons[a], m = bt->stats.reasons[b];
    return n > m || (n == m && a < b);
}

/* The instructions that were callouts, those with most first, each a row (law 2). */
static unsigned count_reasons(const struct bt *bt, struct engine_counter *counters,
                              unsigned max)
{
    const unsigned none = ARRAY_LEN(bt->stats.reasons);
    unsigned n = 0;
    for (unsigned last = none; n < max; n++) {
        unsigned best = none;
        for (unsigned m = 0; m < none; m++) {
            if (bt->stats.reasons[m] && (last == none || is_more(bt, last, m)) &&
                (best == none || is_more(bt, m, best)))
                best = m;
        }
        if (best == none)
            break;
        last = best;
        counters[n] = (struct engine_counter){ZydisMnemonicGetString((ZydisMnemonic)best),
                                              bt->stats.reasons[best]};
    }
    return n;
}

void bt_set_watch(struct vcpu *vcpu, struct bt_watch *watch)
{
    struct bt *bt = bt_of(vcpu);
    bt->watch = watch;
    if (watch) {
        watch->returns = &bt->hot->returns;
        watch->calls = &bt->hot->calls;
    }
}

static unsigned bt_counters(struct vcpu *vcpu, struct engine_counter *counters, unsigned max)
{
    const struct bt *bt = bt_of(vcpu);
    const struct engine_counter all[] = {
        {"translation_units_64bit", bt->stats.tus[2]},
        {"translation_units_32bit", bt->stats.tus[1]},
        {"translation_units_16bit", bt->stats.tus[0]},
        {"guest_instructions", bt->stats.insns},
        {"guest_bytes", bt->stats.guest_bytes},
        {"host_bytes", bt->stats.host_bytes},
        {"translation_tsc_cycles", bt->stats.cycles},
        {"cache_flushes", bt->stats.flushes},
        {"cache_evictions", bt->stats.evictions},
        {"code_pages_dropped", bt->stats.page_drops},
        {"code_lines_dropped", bt->stats.line_drops},
        {"code_units_dropped", bt->stats.tus_dropped},
        {"callouts_link", bt->stats.link_misses},
        {"callouts_cell", bt->stats.cell_misses},
        {"callouts_indirect", bt->stats.indirect_misses},
        {"tlb_fills", bt->stats.fills},
        {"slow_accesses", bt->stats.slow_accesses},
        {"bounced_loads", bt->stats.bounced_loads},
        {"bounced_stores", bt->stats.bounced_stores},
        {"sites_adapted", bt->stats.adapted},
        {"sites_unadapted", bt->stats.unadapted},
        {"shared_checks_failed", bt->stats.careful},
        {"yields", bt->stats.yields},
        {"stops", bt->stats.stops},
        {"steps", bt->stats.steps},
        {"host_faults", bt->stats.host_faults},
        {"flags_recovered", bt->stats.flags_recovered},
        {"flags_settled", bt->stats.flags_settled},
        {"flags_unknown", bt->stats.flags_unknown},
        {"callouts", bt->stats.callouts},
        {"quick_callouts", bt->stats.quick_callouts},
    };
    unsigned n = 0;
    for (; n < ARRAY_LEN(all) && n < max; n++)
        counters[n] = all[n];
    return n + count_reasons(bt, counters + n, max - n);
}

const struct engine bt_engine = {
    .name = "bt",
    .probe = bt_probe,
    .attach = bt_attach,
    .detach = bt_detach,
    .enter = bt_enter,
    .kick = bt_kick,
    .code_written = bt_code_written,
    .counters = bt_counters,
};
