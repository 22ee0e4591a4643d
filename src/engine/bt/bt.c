/* The engine's table: life, entering, and the ops that tell the translator what the guest does
 * to its address translations. See bt.h. */
#include "engine/bt/bt.h"

#include <cpuid.h>
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/monotonic.h"
#include "memory/pmap.h"

/* -- Life ---------------------------------------------------------------------------------- */

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
    for (unsigned i = 0; i < CUTS; i++)
        bt->hot->cut[i] = &bt->hot->poll_word;
    bt->counts = vcpu->engine_options & ENGINE_COUNTS;
    bt->stats.began.tsc = __rdtsc();
    bt->stats.began.ns = monotonic_ns();
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
    breakpoints_update(bt_of(vcpu));
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

/* -- Running ------------------------------------------------------------------------------- */

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

void bt_set_watch(struct vcpu *vcpu, struct bt_watch *watch)
{
    struct bt *bt = bt_of(vcpu);
    bt->watch = watch;
    if (watch) {
        watch->returns = &bt->hot->returns;
        watch->calls = &bt->hot->calls;
    }
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
