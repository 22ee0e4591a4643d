/*
 * Host faults inside translated code. Each host instruction that may fault by the guest's doing
 * has a site: the guest's state there is that of the beginning of its instruction, and the
 * simulator, which then runs it, raises what is due. Polls fault when the vCPU was kicked.
 * Guest memory never faults here: the software TLB stands before each access.
 */
#include "engine/bt/bt.h"

static struct site *fault_site(struct bt *bt, u32 host)
{
    u32 generation = host / bt->generation_size;
    u32 low = cache_first(generation, MAX_SITES);
    u32 end = generation == bt->generation ? bt->n_sites : bt->closed[generation].sites;
    u32 high = end;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        if (bt->sites[middle].host < host)
            low = middle + 1;
        else
            high = middle;
    }
    /* Several sites may stand at one place: the check and the access of one instruction. */
    return low < end && bt->sites[low].host == host ? &bt->sites[low] : NULL;
}

void fault_x87_pointers(struct bt *bt, struct x86_fpu *fpu)
{
    u64 host = fpu->fip - (u64)bt->memory.exec;
    bool translation = host >= bt->stubs_end && host < GENERATIONS * (u64)bt->generation_size;
    const struct site *site = translation ? fault_site(bt, (u32)host) : NULL;
    fpu->fip = site ? place_rip(bt->tus[site->tu].mode, site->rip) : 0;
    fpu->fdp = 0;
    fpu->fop = 0;
}

bool fault_handle(struct trap *trap, int signal, siginfo_t *info, ucontext_t *context)
{
    struct bt *bt = container_of(trap, struct bt, trap);
    greg_t *regs = context->uc_mcontext.gregs;
    u64 host = (u64)regs[REG_RIP] - (u64)bt->memory.exec;
    if (host < bt->stubs_end || host >= GENERATIONS * bt->generation_size)
        return thunks_trap(&bt->vcpu->sim->thunks, signal, context);
    const struct site *site = fault_site(bt, (u32)host);
    if (!site)
        return false;
    bt->stats.host_faults++;
    if (site->swapped) {
        regs[REG_RAX] = (greg_t)bt->hot->spill[0];
        regs[REG_RDX] = (greg_t)bt->hot->spill[1];
    }
    const void *const *stubs = site->kind == SITE_POLL ? bt->stubs.stop : bt->stubs.simulate;
    regs[REG_R11] = site - bt->sites;
    regs[REG_RIP] = (greg_t)stubs[site->flags_saved];
    return true;
}
