/*
 * The simulator's loop, see sim.h. The parts, in the order in which an instruction meets them:
 *   1. attention: what must happen between two instructions;
 *   2. finding the decoded block at RIP, or decoding it;
 *   3. running the block, instruction by instruction, until something wants attention;
 *   4. the slow way, one instruction at a time, while traps or breakpoints are on.
 */
#include "engine/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "engine/access.h"
#include "memory/pmap.h"
#include "memory/tlb.h"
#include "x86/debug.h"
#include "x86/interrupt.h"
#include "x86/mem.h"
#include "x86/print.h"

/* -- 1. Attention -------------------------------------------------------------------------- */

static bool pending(const struct x86_cpu *c, u32 mask)
{
    return atomic_load_explicit(&c->attention, memory_order_acquire) & mask;
}

/* INIT and start-up IPIs (SDM vol. 3, 8.4). */
static void attend_start(struct vcpu *vcpu)
{
    struct x86_cpu *c = &vcpu->cpu;
    if (pending(c, ATTN_INIT)) {
        vcpu_clear(vcpu, ATTN_INIT);
        x86_init(c);
        tlb_flush_all(c);
        if (vcpu->apic_ops)
            vcpu->apic_ops->init(vcpu->apic);
        /* The bootstrap processor starts at the reset vector, the others wait. */
        c->activity = vcpu->index ? CPU_WAIT_SIPI : CPU_RUNNING;
    }
    if (pending(c, ATTN_SIPI)) {
        vcpu_clear(vcpu, ATTN_SIPI);
        if (c->activity == CPU_WAIT_SIPI)
            x86_sipi(c, atomic_load(&vcpu->sipi_vector));
    }
}

static void attend_interrupts(struct vcpu *vcpu)
{
    struct x86_cpu *c = &vcpu->cpu;
    if (pending(c, ATTN_NMI) && c->nmi_blocked)
        vcpu_nmi_hold(vcpu);
    if (pending(c, ATTN_NMI) && !c->nmi_blocked) {
        if (!vcpu_nmi_take(vcpu))
            return;
        c->activity = CPU_RUNNING;
        vcpu->sim->interrupts++;
        x86_deliver_nmi(c);
        return;
    }
    if (!pending(c, ATTN_INTR) || !(c->rflags & FLAG_IF))
        return;
    int vector = vcpu->apic_ops->acknowledge(vcpu->apic);
    if (vector < 0)
        return;
    c->activity = CPU_RUNNING;
    vcpu->sim->interrupts++;
    x86_deliver_interrupt(c, (u8)vector);
}

bool sim_attend(struct vcpu *vcpu, enum engine_exit *exit)
{
    struct x86_cpu *c = &vcpu->cpu;
    vcpu_clear(vcpu, ATTN_STATE);
    if (pending(c, ATTN_WORK))
        vcpu_run_work(vcpu);
    if (pending(c, ATTN_KICK)) {
        *exit = EXIT_STOPPED;
        return false;
    }
    if (pending(c, ATTN_INIT | ATTN_SIPI))
        attend_start(vcpu);
    if (c->activity == CPU_SHUTDOWN) {
        *exit = EXIT_SHUTDOWN;
        return false;
    }
    bool blocked = c->sti_shadow || c->ss_shadow || c->activity == CPU_WAIT_SIPI;
    if (!blocked && pending(c, ATTN_NMI | ATTN_INTR))
        attend_interrupts(vcpu);
    if (c->activity == CPU_HALTED || c->activity == CPU_WAIT_SIPI) {
        *exit = EXIT_HALTED;
        return false;
    }
    return c->activity != CPU_SHUTDOWN || sim_attend(vcpu, exit);
}

/* -- 2. Finding and decoding --------------------------------------------------------------- */

static void drop_all(struct sim *sim)
{
    blocks_reset(&sim->blocks);
    thunks_reset(&sim->thunks);
    for (unsigned i = 0; i < CROSSING_SLOTS; i++)
        sim->crossing[i].key = 0;
}

/* RIP as a linear address; #GP(0) beyond the code segment's limit (long mode: RIP is
 * canonical). */
static struct gva linear_rip(struct x86_cpu *c)
{
    if (likely(x86_64bit(c)))
        return gva(c->rip);
    if (unlikely(c->rip > c->seg[SEG_CS].limit))
        x86_raise_error(c, VEC_GP, 0);
    return gva((u32)(c->seg[SEG_CS].base + c->rip));
}

/* Bytes that may be fetched at RIP: the limit may end inside an instruction. */
static unsigned fetchable(const struct x86_cpu *c)
{
    if (x86_64bit(c))
        return 15;
    u64 left = c->seg[SEG_CS].limit - c->rip + 1;
    return left < 15 ? (unsigned)left : 15;
}

static void decode_or_flush(struct x86_cpu *c, const u8 *bytes, unsigned size,
                            struct x86_insn *i)
{
    enum x86_decode_result result = x86_decode(c, bytes, size, c->code_size, i);
    if (result == DECODE_FULL) {
        drop_all(sim_of(c));
        result = x86_decode(c, bytes, size, c->code_size, i);
    }
    ensure(result != DECODE_FULL);
    if (result == DECODE_SHORT) {
        /* The rest lies beyond the limit, or on a page that faults: the fault comes at its
         * address. */
        if (!x86_64bit(c) && c->rip + size > c->seg[SEG_CS].limit)
            x86_raise_error(c, VEC_GP, 0);
        u8 byte;
        c->ops->fetch(c, gva(linear_rip(c).v + size), &byte, 1);
        /* It can be read now: another processor mapped it meanwhile. Try again. */
        i->exec = NULL;
    }
}

/* The instruction at RIP decoded by itself: it crosses a page, or does not lie in RAM. */
static struct x86_insn *decode_single(struct x86_cpu *c, struct gva la, u64 key)
{
    struct sim *sim = sim_of(c);
    struct crossing *crossing = &sim->crossing[(key ^ key >> 12) % CROSSING_SLOTS];
    u8 bytes[15];
    do {
        unsigned size = c->ops->fetch(c, la, bytes, fetchable(c));
        if (key && crossing->key == key && crossing->size == size &&
            !memcmp(crossing->bytes, bytes, size))
            return &crossing->insn;
        decode_or_flush(c, bytes, size, &crossing->insn);
        crossing->key = key;
        crossing->size = (u8)size;
        memcpy(crossing->bytes, bytes, size);
    } while (!crossing->insn.exec);
    return &crossing->insn;
}

/* `-d in_asm`: the block's instructions, as they were decoded from `code`. */
static void log_block(struct x86_cpu *c, const struct block *block, const u8 *code)
{
    u64 rip = c->rip;
    for (u32 k = 0; k < block->n; k++) {
        char text[96];
        x86_print_insn(code, block->insns[k].length, c->code_size, rip, text, sizeof(text));
        log_write(c->log, "%u:%016llx: %s", c->code_size * 8u, (unsigned long long)rip, text);
        code += block->insns[k].length;
        rip += block->insns[k].length;
    }
}

/* Decodes up to `left` bytes into the block; false: the store of decoded instructions is full
 * before the first. */
static bool fill_block(struct x86_cpu *c, struct block *block, const u8 *bytes, unsigned left)
{
    block->n = block->size = 0;
    while (left && block->n < MAX_BLOCK) {
        struct x86_insn *i = &block->insns[block->n];
        enum x86_decode_result result =
            x86_decode(c, bytes + block->size, left < 15 ? left : 15, c->code_size, i);
        if (result == DECODE_FULL)
            return block->n;
        if (result == DECODE_SHORT)
            break;
        block->n++;
        /* What is no instruction is so because of bytes behind, too. */
        block->size += i->mnemonic ? i->length : left < 15 ? left : 15;
        left -= i->length;
        if (i->flags & INSN_ENDS)
            break;
    }
    return true;
}

/* A block from the rest of the page. Returns NULL when not even the first instruction ends in
 * it. */
static struct block *decode_block(struct x86_cpu *c, struct gfn frame, const u8 *code, u64 key)
{
    struct sim *sim = sim_of(c);
    struct block *block = blocks_reserve(&sim->blocks);
    if (!block) {
        drop_all(sim);
        block = blocks_reserve(&sim->blocks);
    }
    unsigned left = (unsigned)page_left((u64)code);
    u64 limit = x86_64bit(c) ? left : c->seg[SEG_CS].limit - c->rip + 1;
    if (limit < left)
        left = (unsigned)limit;
    u8 bytes[PAGE_SIZE];
    do {
        memcpy(bytes, code, left);
        block->key = key;
        if (!fill_block(c, block, bytes, left)) {
            drop_all(sim);
            return decode_block(c, frame, code, key);
        }
        if (!block->n)
            return NULL;
        access_note_code(container_of(c, struct vcpu, cpu), frame,
                         pmap_lines((unsigned)((u64)code & ~PAGE_MASK), block->size));
        /* Another processor may have written before that. */
    } while (memcmp(bytes, code, block->size) != 0);
    blocks_commit(&sim->blocks, block);
    if (log_on(c->log, LOG_IN_ASM))
        log_block(c, block, code);
    return block;
}

/* What to run at RIP: a block, or one instruction outside blocks. */
struct found {
    struct block *block;
    struct x86_insn *single;
};

static struct found find_slow(struct x86_cpu *c, struct gva la)
{
    struct vcpu *vcpu = container_of(c, struct vcpu, cpu);
    struct gfn frame;
    const u8 *code = access_code(c, la, &frame);
    if (!code)
        return (struct found){.single = decode_single(c, la, 0)};
    u64 key = block_key(code, c->code_size);
    struct block *block = blocks_find(&vcpu->sim->blocks, key);
    if (!block) {
        access_watch_code(vcpu, frame);
        block = decode_block(c, frame, code, key);
    }
    if (block)
        return (struct found){.block = block};
    return (struct found){.single = decode_single(c, la, key)};
}

/* The decoded block at RIP, if it can be had without a walk. */
static inline struct block *find_ready(struct x86_cpu *c, struct gva la)
{
    const struct x86_tlb *tlb = &c->tlb[c->tlb_index];
    unsigned slot = tlb_slot(la.v);
    if (unlikely(tlb->exec[slot] != (la.v & PAGE_MASK)))
        return NULL;
    u64 key = block_key((const u8 *)tlb->page[slot] + (la.v & ~PAGE_MASK), c->code_size);
    return blocks_find(&sim_of(c)->blocks, key);
}

static inline struct found find(struct x86_cpu *c)
{
    struct gva la = linear_rip(c);
    struct block *block = find_ready(c, la);
    return likely(block) ? (struct found){.block = block} : find_slow(c, la);
}

bool sim_ready(struct vcpu *vcpu)
{
    struct x86_cpu *c = &vcpu->cpu;
    return x86_64bit(c) && find_ready(c, gva(c->rip));
}

/* -- 3. Running ---------------------------------------------------------------------------- */

static inline bool attention(const struct x86_cpu *c)
{
    return unlikely(atomic_load_explicit(&c->attention, memory_order_relaxed));
}

/* `-d exec` and `-d cpu`: where each block starts, and the state there. */
static void log_run(const struct x86_cpu *c)
{
    char text[2048];
    log_to(c->log, LOG_EXEC, "exec %016llx cpl=%u", (unsigned long long)c->rip, c->cpl);
    if (log_on(c->log, LOG_CPU)) {
        x86_print_state(c, text, sizeof(text));
        log_write(c->log, "%s", text);
    }
}

/* Runs up to `max` instructions of what stands at RIP; stops where something wants
 * attention. */
static inline void run_found(struct x86_cpu *c, u32 max)
{
    c->insn_rip = c->rip; /* a fault of the fetch is the next instruction's */
    struct found found = find(c);
    if (unlikely(c->log->mask & (1u << LOG_EXEC | 1u << LOG_CPU)))
        log_run(c);
    if (unlikely(!found.block)) {
        c->insns++;
        x86_execute(c, found.single);
        return;
    }
    struct x86_insn *i = found.block->insns;
    u32 n = found.block->n < max ? found.block->n : max;
    struct x86_insn *end = i + n;
    do {
        c->insns++;
        x86_execute(c, i++);
    } while (i != end && !attention(c));
}

/* -- 4. One at a time ---------------------------------------------------------------------- */

/* Does the next instruction need the looks before and after it that step() takes? */
static bool stepping(const struct x86_cpu *c)
{
    return (c->rflags & (FLAG_TF | FLAG_RF)) || x86_breakpoints_on(c) || c->sti_shadow ||
           c->ss_shadow || c->pending_db;
}

/* #DB as a fault before the instruction, unless RF says that it was reported (SDM vol.
 * 3, 17.3.1.1). */
static bool breakpoint_fault(struct x86_cpu *c)
{
    if (!x86_breakpoints_on(c) || (c->rflags & FLAG_RF) || c->ss_shadow)
        return false;
    u64 hits = x86_insn_breakpoints(c, linear_rip(c));
    if (!hits)
        return false;
    c->insn_rip = c->rip;
    c->pending_db |= hits;
    x86_deliver_debug(c);
    return true;
}

static void step(struct x86_cpu *c)
{
    if (c->pending_db && !c->ss_shadow) {
        x86_deliver_debug(c);
        return;
    }
    if (breakpoint_fault(c))
        return;
    bool trap = c->rflags & FLAG_TF, shadowed = c->ss_shadow;
    /* The shadows cover exactly this instruction, which may cast new ones. */
    c->sti_shadow = c->ss_shadow = c->no_step = false;
    c->rflags &= ~FLAG_RF;
    x86_attend(c);
    run_found(c, 1);
    /* Of two loads of SS in a row only the first casts one (SDM vol. 3, 6.8.3). */
    c->ss_shadow &= !shadowed;
    if (c->ss_shadow)
        return;
    if (trap && !c->no_step)
        c->pending_db |= DR6_BS;
    if (c->pending_db)
        x86_deliver_debug(c);
}

/* The instruction in progress faulted: c->unwind brought us back. */
static void faulted(struct x86_cpu *c)
{
    struct sim *sim = sim_of(c);
    sim->faults++;
    c->pending_db = 0;
    if (sim->faulting)
        sim->faulting(c);
    x86_deliver_fault(c);
}

static void run_some(struct vcpu *vcpu, u32 max)
{
    struct x86_cpu *c = &vcpu->cpu;
    jmp_buf unwind;
    c->unwind = &unwind;
    if (setjmp(unwind))
        faulted(c);
    else if (stepping(c))
        step(c);
    else
        run_found(c, max);
}

void sim_step(struct vcpu *vcpu)
{
    run_some(vcpu, 1);
}

void sim_run(struct vcpu *vcpu)
{
    run_some(vcpu, MAX_BLOCK);
}

static enum engine_exit sim_enter(struct vcpu *vcpu)
{
    struct x86_cpu *c = &vcpu->cpu;
    enum engine_exit exit;
    jmp_buf unwind;
    c->unwind = &unwind;
    if (setjmp(unwind))
        faulted(c);
    while (true) {
        if (attention(c) && !sim_attend(vcpu, &exit))
            return exit;
        if (unlikely(stepping(c)))
            step(c);
        else
            run_found(c, MAX_BLOCK);
    }
}

/* -- Life ---------------------------------------------------------------------------------- */

bool sim_create(struct vcpu *vcpu, struct error *err)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    if (!sim)
        return error_set(err, "out of memory");
    if (!blocks_create(&sim->blocks, err)) {
        free(sim);
        return false;
    }
    if (!thunks_map(&sim->thunks, err)) {
        blocks_destroy(&sim->blocks);
        free(sim);
        return false;
    }
    vcpu->sim = sim;
    vcpu->cpu.ops = &access_ops;
    vcpu->cpu.log = vcpu->board->log;
    tlb_init(&vcpu->cpu);
    return true;
}

void sim_destroy(struct vcpu *vcpu)
{
    thunks_unmap(&vcpu->sim->thunks);
    blocks_destroy(&vcpu->sim->blocks);
    free(vcpu->sim);
    vcpu->sim = NULL;
}

static bool sim_trap(struct trap *trap, int signal, siginfo_t *info, ucontext_t *context)
{
    (void)info;
    return thunks_trap(&container_of(trap, struct sim, trap)->thunks, signal, context);
}

static bool sim_probe(struct error *why)
{
    (void)why;
    return true;
}

static bool sim_attach(struct vcpu *vcpu, struct error *err)
{
    if (!sim_create(vcpu, err))
        return false;
    vcpu->sim->trap.handle = sim_trap;
    trap_install();
    if (trap_enter(&vcpu->sim->trap, err))
        return true;
    sim_destroy(vcpu);
    return false;
}

static void sim_detach(struct vcpu *vcpu)
{
    trap_leave();
    sim_destroy(vcpu);
}

void sim_code_written(struct vcpu *vcpu, struct gfn frame, u64 lines)
{
    const u8 *page = pmap_page(vcpu->board->pmap, frame);
    if (page)
        blocks_drop(&vcpu->sim->blocks, page, lines);
    /* The block in progress may be one of them: stop it after the present instruction. */
    x86_attend(&vcpu->cpu);
}

static unsigned sim_counters(struct vcpu *vcpu, struct engine_counter *counters, unsigned max)
{
    const struct sim *sim = vcpu->sim;
    const struct engine_counter all[] = {
        {"instructions", vcpu->cpu.insns},     {"blocks_decoded", sim->blocks.decoded},
        {"cache_flushes", sim->blocks.resets}, {"faults", sim->faults},
        {"interrupts", sim->interrupts},
    };
    for (unsigned i = 0; i < ARRAY_LEN(all) && i < max; i++)
        counters[i] = all[i];
    return ARRAY_LEN(all);
}

const struct engine sim_engine = {
    .name = "sim",
    .probe = sim_probe,
    .attach = sim_attach,
    .detach = sim_detach,
    .enter = sim_enter,
    .code_written = sim_code_written,
    .counters = sim_counters,
};
