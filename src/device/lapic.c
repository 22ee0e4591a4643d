/*
 * A local APIC (Intel SDM vol. 3, chapter 10): registers, acceptance, delivery. Register
 * numbers are xAPIC offset >> 4 = x2APIC MSR - 800h. The version is 14h with six LVT entries
 * (no CMCI); directed EOI (SVR bit 12) is offered, for IOAPICs with an EOI register. There is
 * no SMM, so SMIs are dropped. All under the board lock; the vCPU's entry points take it.
 */
#include "device/lapic.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/lapic_state.h"

enum lapic_reg {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_INITIAL_COUNT = 0x38,
    REG_CURRENT_COUNT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
};

#define VERSION (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

#define SVR_ENABLE       BIT(8)
#define SVR_SUPPRESS_EOI BIT(12)

#define ESR_SEND_ILLEGAL     BIT(5)
#define ESR_RECEIVE_ILLEGAL  BIT(6)
#define ESR_ILLEGAL_REGISTER BIT(7)

#define ICR_LOGICAL        BIT(11)
#define ICR_ASSERT         BIT(14)
#define ICR_LEVEL          BIT(15)
#define ICR_MODE(icr)      ((enum apic_mode)((icr) >> 8 & 7))
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)

/* Bits of LVT entries that can be written, and those that can only be read (delivery status,
 * remote IRR), which a WRMSR may hold. */
static const u32 lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};
#define LVT_READ_ONLY 0x5000u

static bool lapic_enabled(const struct lapic *lapic)
{
    return lapic->apic_base & APIC_BASE_ENABLE;
}

static bool lapic_x2apic(const struct lapic *lapic)
{
    return lapic->apic_base & APIC_BASE_EXTD;
}

/* -- 256-bit vectors: IRR, ISR, TMR -------------------------------------------------------- */

static int vectors_highest(const u32 set[8])
{
    for (int i = 7; i >= 0; i--)
        if (set[i])
            return i * 32 + 31 - __builtin_clz(set[i]);
    return -1;
}

static void vectors_set(u32 set[8], u8 vector)
{
    set[vector / 32] |= 1u << vector % 32;
}

static void vectors_clear(u32 set[8], u8 vector)
{
    set[vector / 32] &= ~(1u << vector % 32);
}

static bool vectors_has(const u32 set[8], u8 vector)
{
    return set[vector / 32] >> vector % 32 & 1;
}

/* -- Priorities and the INTR line ---------------------------------------------------------- */

u8 lapic_ppr(const struct lapic *lapic)
{
    int service = vectors_highest(lapic->isr);
    u8 isrv = service < 0 ? 0 : (u8)service & 0xf0;
    return (lapic->tpr & 0xf0) >= isrv ? lapic->tpr : isrv;
}

/* The vector in IRR that outranks the processor priority, or -1 (10.8.3.1). */
static int lapic_pending(const struct lapic *lapic)
{
    int vector = vectors_highest(lapic->irr);
    /* What is in service may be over already: then the acknowledgement decides. */
    u8 priority = lapic->pv_eoi_offered ? lapic->tpr : lapic_ppr(lapic);
    return vector >= 0 && (vector & 0xf0) > (priority & 0xf0) ? vector : -1;
}

/* Whether INTA would go to the 8259. */
static bool lapic_extint(const struct lapic *lapic)
{
    if (!lapic_enabled(lapic))
        return lapic->lint[LAPIC_LINT0];
    u32 lint0 = lapic->lvt[LVT_LINT0];
    bool wired =
        lapic->lint[LAPIC_LINT0] && !(lint0 & LVT_MASKED) && LVT_MODE(lint0) == APIC_EXTINT;
    return wired || lapic->extint_latch;
}

/* Keeps the vCPU's INTR line right; ATTN_INTR itself remembers what it was. */
static void lapic_update(struct lapic *lapic)
{
    bool up = lapic_extint(lapic) || (lapic_enabled(lapic) && lapic_pending(lapic) >= 0);
    u32 attention = atomic_load_explicit(&lapic->vcpu->cpu.attention, memory_order_relaxed);
    if (up && !(attention & ATTN_INTR))
        vcpu_signal(lapic->vcpu, ATTN_INTR);
    else if (!up && (attention & ATTN_INTR))
        vcpu_clear(lapic->vcpu, ATTN_INTR);
}

/* -- Errors -------------------------------------------------------------------------------- */

static void lapic_error(struct lapic *lapic, u32 bit)
{
    lapic->esr_pending |= bit;
    u32 lvt = lapic->lvt[LVT_ERROR];
    /* Not by way of lapic_accept: an illegal vector here must not be an error in turn. */
    if (!(lvt & LVT_MASKED) && (lvt & LVT_VECTOR) >= 16) {
        vectors_clear(lapic->tmr, (u8)lvt);
        vectors_set(lapic->irr, (u8)lvt);
        lapic_update(lapic);
    }
}

/* -- Acceptance ---------------------------------------------------------------------------- */

bool lapic_listens(const struct lapic *lapic)
{
    return lapic_enabled(lapic) && (lapic->svr & SVR_ENABLE);
}

static u32 lapic_id(const struct lapic *lapic)
{
    return lapic_x2apic(lapic) ? lapic->vcpu->index : lapic->xapic_id;
}

/* 10.12.10.2 */
static u32 lapic_x2apic_ldr(const struct lapic *lapic)
{
    u32 id = lapic->vcpu->index;
    return id >> 4 << 16 | 1u << (id & 15);
}

bool lapic_matches(const struct lapic *lapic, u32 dest, bool logical)
{
    if (dest == APIC_BROADCAST)
        return true;
    if (!logical)
        return lapic_id(lapic) == dest;
    if (lapic_x2apic(lapic)) {
        u32 ldr = lapic_x2apic_ldr(lapic);
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
    }
    if (lapic->dfr == 15) /* flat model */
        return dest & lapic->ldr;
    bool cluster = dest >> 4 == 15 || dest >> 4 == (u32)lapic->ldr >> 4;
    return cluster && (dest & lapic->ldr & 15);
}

static bool lapic_accept_fixed(struct lapic *lapic, u8 vector, bool level)
{
    if (!lapic_listens(lapic))
        return false;
    if (vector < 16) {
        lapic_error(lapic, ESR_RECEIVE_ILLEGAL);
        return false;
    }
    if (level)
        vectors_set(lapic->tmr, vector);
    else
        vectors_clear(lapic->tmr, vector);
    vectors_set(lapic->irr, vector);
    lapic_update(lapic);
    return true;
}

bool lapic_accept(struct lapic *lapic, enum apic_mode mode, u8 vector, bool level)
{
    if (!lapic_enabled(lapic))
        return false;
    switch (mode) {
    case APIC_FIXED:
    case APIC_LOWEST:
        return lapic_accept_fixed(lapic, vector, level);
    case APIC_NMI:
        vcpu_nmi(lapic->vcpu);
        return true;
    case APIC_INIT:
        /* Only a start-up IPI that comes later counts, also when INIT is not yet served. */
        vcpu_clear(lapic->vcpu, ATTN_SIPI);
        vcpu_signal(lapic->vcpu, ATTN_INIT);
        return true;
    case APIC_SIPI:
        atomic_store(&lapic->vcpu->sipi_vector, vector);
        vcpu_signal(lapic->vcpu, ATTN_SIPI);
        return true;
    case APIC_EXTINT:
        lapic->extint_latch = true;
        lapic_update(lapic);
        return true;
    default:
        log_to(lapic->board->log, LOG_UNIMP, "lapic %u: SMI or reserved delivery mode dropped",
               lapic->vcpu->index);
        return false;
    }
}

void lapic_local(struct lapic *lapic, enum lapic_lvt entry)
{
    u32 lvt = lapic->lvt[entry];
    if (lvt & LVT_MASKED)
        return;
    /* Timer and error entries have no mode field: it reads as zero, fixed. */
    lapic_accept(lapic, LVT_MODE(lvt), (u8)lvt, false);
}

/* -- LINT0 and LINT1 ----------------------------------------------------------------------- */

/* A level-triggered fixed LINT0: asks again after each EOI while the pin is up (10.5.1). */
static void lapic_lint_level(struct lapic *lapic)
{
    u32 *lvt = &lapic->lvt[LVT_LINT0];
    bool wants = lapic->lint[LAPIC_LINT0] && (*lvt & LVT_LEVEL) &&
                 !(*lvt & (LVT_MASKED | LVT_REMOTE_IRR)) && LVT_MODE(*lvt) == APIC_FIXED;
    if (wants && lapic_accept(lapic, APIC_FIXED, (u8)*lvt, true))
        *lvt |= LVT_REMOTE_IRR;
}

static void lapic_set_lint(void *opaque, unsigned n, bool level)
{
    struct lapic *lapic = opaque;
    if (lapic->lint[n] == level)
        return;
    lapic->lint[n] = level;
    if (n == LAPIC_LINT1 && level && !lapic_enabled(lapic)) {
        vcpu_nmi(lapic->vcpu);
        return;
    }
    u32 lvt = lapic->lvt[LVT_LINT0 + n];
    bool is_level = n == LAPIC_LINT0 && (lvt & LVT_LEVEL) && LVT_MODE(lvt) == APIC_FIXED;
    if (is_level)
        lapic_lint_level(lapic);
    else if (level && LVT_MODE(lvt) != APIC_EXTINT)
        lapic_local(lapic, LVT_LINT0 + n);
    lapic_update(lapic);
}

struct irq_line lapic_line(struct lapic *lapic, unsigned lint)
{
    ensure(lint <= LAPIC_LINT1);
    return (struct irq_line){lapic_set_lint, lapic, lint};
}

/* -- Commands ------------------------------------------------------------------------------ */

void lapic_eoi(struct lapic *lapic)
{
    int vector = vectors_highest(lapic->isr);
    if (vector < 0)
        return;
    vectors_clear(lapic->isr, (u8)vector);
    if (vectors_has(lapic->tmr, (u8)vector)) {
        if ((lapic->lvt[LVT_LINT0] & LVT_REMOTE_IRR) && (u8)lapic->lvt[LVT_LINT0] == vector) {
            lapic->lvt[LVT_LINT0] &= ~LVT_REMOTE_IRR;
            lapic_lint_level(lapic);
        }
        if (!(lapic->svr & SVR_SUPPRESS_EOI))
            apic_bus_eoi(lapic->bus, (u8)vector);
    }
    lapic_update(lapic);
}

static void lapic_send_shorthand(struct lapic *lapic, const struct apic_message *message,
                                 unsigned shorthand)
{
    if (shorthand == 1) {
        lapic_accept(lapic, message->mode, message->vector, false);
        return;
    }
    apic_bus_broadcast(lapic->bus, message, shorthand == 3 ? lapic : NULL);
}

/* Sends what ICR says (10.6.1). */
static void lapic_send(struct lapic *lapic)
{
    u64 icr = lapic->icr;
    struct apic_message message = {.mode = ICR_MODE(icr), .vector = (u8)icr};
    /* INIT level de-assert only synchronized arbitration ids, on processors long gone. */
    if (message.mode == APIC_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
        return;
    bool fixed = message.mode == APIC_FIXED || message.mode == APIC_LOWEST;
    if (fixed && message.vector < 16) {
        lapic_error(lapic, ESR_SEND_ILLEGAL);
        return;
    }
    unsigned shorthand = (unsigned)ICR_SHORTHAND(icr);
    if (shorthand) {
        lapic_send_shorthand(lapic, &message, shorthand);
        return;
    }
    message.logical = icr & ICR_LOGICAL;
    message.dest = lapic_x2apic(lapic) ? (u32)(icr >> 32) : (u32)(icr >> 56);
    if (!lapic_x2apic(lapic) && !message.logical && message.dest == 0xff)
        message.dest = APIC_BROADCAST;
    apic_bus_send(lapic->bus, &message);
}

static void lapic_self_ipi(struct lapic *lapic, u8 vector)
{
    if (vector < 16)
        lapic_error(lapic, ESR_SEND_ILLEGAL);
    else
        lapic_accept(lapic, APIC_FIXED, vector, false);
}

static void lapic_set_id(struct lapic *lapic, u8 id)
{
    lapic->xapic_id = id;
    if (id != (u8)lapic->vcpu->index)
        apic_bus_renumber(lapic->bus);
}

static void lapic_write_svr(struct lapic *lapic, u32 value)
{
    lapic->svr = value & (0x1ffu | SVR_SUPPRESS_EOI);
    if (lapic->svr & SVR_ENABLE)
        return;
    /* Software disable masks all LVTs (10.4.7.2). */
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic->lvt[i] |= LVT_MASKED;
    lapic_timer_arm(lapic);
    lapic_update(lapic);
}

static void lapic_write_lvt(struct lapic *lapic, unsigned entry, u32 value)
{
    u32 old = lapic->lvt[entry];
    value = (value & lvt_writable[entry]) | (old & LVT_REMOTE_IRR);
    if (!(lapic->svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (entry == LVT_TIMER) {
        lapic_timer_set_lvt(lapic, value);
        return;
    }
    /* Remote IRR belongs to level-triggered fixed interrupts. */
    if (!(value & LVT_LEVEL) || LVT_MODE(value) != APIC_FIXED)
        value &= ~LVT_REMOTE_IRR;
    lapic->lvt[entry] = value;
    if (entry == LVT_LINT0) {
        lapic_lint_level(lapic);
        lapic_update(lapic);
    }
}

/* -- Registers, common to both modes ------------------------------------------------------- */

/* False: there is no such register, or it cannot be read. */
static bool lapic_read_reg(struct lapic *lapic, unsigned reg, u32 *value)
{
    bool x2apic = lapic_x2apic(lapic);
    switch (reg) {
    case REG_ID:
        *value = x2apic ? lapic->vcpu->index : (u32)lapic->xapic_id << 24;
        return true;
    case REG_VERSION:
        *value = VERSION;
        return true;
    case REG_TPR:
        *value = lapic->tpr;
        return true;
    case REG_PPR:
        *value = lapic_ppr(lapic);
        return true;
    case REG_APR:
    case REG_RRD:
    case REG_EOI: /* xAPIC: read as zero */
        *value = 0;
        return !x2apic;
    case REG_LDR:
        *value = x2apic ? lapic_x2apic_ldr(lapic) : (u32)lapic->ldr << 24;
        return true;
    case REG_DFR:
        *value = (u32)lapic->dfr << 28 | 0x0fffffff;
        return !x2apic;
    case REG_SVR:
        *value = lapic->svr;
        return true;
    case REG_ISR ... REG_ISR + 7:
        *value = lapic->isr[reg - REG_ISR];
        return true;
    case REG_TMR ... REG_TMR + 7:
        *value = lapic->tmr[reg - REG_TMR];
        return true;
    case REG_IRR ... REG_IRR + 7:
        *value = lapic->irr[reg - REG_IRR];
        return true;
    case REG_ESR:
        *value = lapic->esr;
        return true;
    case REG_ICR:
        *value = (u32)lapic->icr;
        return true;
    case REG_ICR_HIGH:
        *value = (u32)(lapic->icr >> 32);
        return !x2apic;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1:
        *value = lapic->lvt[reg - REG_LVT];
        return true;
    case REG_INITIAL_COUNT:
        *value = lapic->initial_count;
        return true;
    case REG_CURRENT_COUNT:
        *value = lapic_timer_count(lapic);
        return true;
    case REG_DIVIDE:
        *value = lapic->divide;
        return true;
    default:
        return false;
    }
}

/* The bits that make a WRMSR fault when set. */
static u64 lapic_reserved(const struct lapic *lapic, unsigned reg)
{
    bool x2apic = lapic_x2apic(lapic);
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI:
        return ~0xffull;
    case REG_EOI:
    case REG_ESR:
        return ~0ull;
    case REG_SVR:
        return ~(0x1ffull | SVR_SUPPRESS_EOI);
    case REG_ICR:
        return x2apic ? 0xfff32000ull : 0;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1:
        return ~(u64)(lvt_writable[reg - REG_LVT] | LVT_READ_ONLY);
    case REG_INITIAL_COUNT:
        return ~0xffffffffull;
    case REG_DIVIDE:
        return ~0xbull;
    default:
        return 0;
    }
}

/* False: there is no such register, or it cannot be written. */
static bool lapic_write_reg(struct lapic *lapic, unsigned reg, u64 wide)
{
    u32 value = (u32)wide;
    bool x2apic = lapic_x2apic(lapic);
    bool xapic_only = reg == REG_ID || reg == REG_LDR || reg == REG_DFR || reg == REG_ICR_HIGH;
    if (x2apic ? xapic_only : reg == REG_SELF_IPI)
        return false;
    switch (reg) {
    case REG_TPR:
        lapic->tpr = (u8)value;
        lapic_update(lapic);
        return true;
    case REG_EOI:
        lapic_eoi(lapic);
        return true;
    case REG_ID:
        lapic_set_id(lapic, (u8)(value >> 24));
        return true;
    case REG_LDR:
        lapic->ldr = (u8)(value >> 24);
        return true;
    case REG_DFR:
        lapic->dfr = (u8)(value >> 28);
        return true;
    case REG_SVR:
        lapic_write_svr(lapic, value);
        return true;
    case REG_ESR:
        lapic->esr = lapic->esr_pending;
        lapic->esr_pending = 0;
        return true;
    case REG_ICR:
        lapic->icr =
            x2apic ? wide & ~BIT(12) : (lapic->icr & ~0xffffffffull) | (value & 0x000ccfffu);
        lapic_send(lapic);
        return true;
    case REG_ICR_HIGH:
        lapic->icr = (u32)lapic->icr | (u64)(value & 0xff000000u) << 32;
        return true;
    case REG_LVT ... REG_LVT + LVT_COUNT - 1:
        lapic_write_lvt(lapic, reg - REG_LVT, value);
        return true;
    case REG_INITIAL_COUNT:
        lapic_timer_set_count(lapic, value);
        return true;
    case REG_DIVIDE:
        lapic_timer_set_divide(lapic, value & 0xb);
        return true;
    case REG_SELF_IPI:
        lapic_self_ipi(lapic, (u8)value);
        return true;
    default:
        return false;
    }
}

/* -- The processor side -------------------------------------------------------------------- */

static int lapic_op_acknowledge(void *apic)
{
    struct lapic *lapic = apic;
    board_lock(lapic->board);
    lapic_pv_sync(lapic);
    int vector;
    if (lapic_extint(lapic)) {
        lapic->extint_latch = false;
        vector = apic_bus_intack(lapic->bus);
    } else {
        vector = lapic_enabled(lapic) ? lapic_pending(lapic) : -1;
        if (vector >= 0) {
            vectors_clear(lapic->irr, (u8)vector);
            vectors_set(lapic->isr, (u8)vector);
            lapic_pv_offer(lapic, (u8)vector);
        }
    }
    lapic_update(lapic);
    board_unlock(lapic->board);
    return vector;
}

/* Without the lock: only the vCPU itself writes its TPR while it runs. */
static u64 lapic_op_read_tpr(void *apic)
{
    const struct lapic *lapic = apic;
    return lapic->tpr >> 4;
}

static void lapic_op_write_tpr(void *apic, u64 cr8)
{
    struct lapic *lapic = apic;
    u8 tpr = (u8)((cr8 & 15) << 4);
    if (tpr == lapic->tpr) /* Windows writes CR8 all the time */
        return;
    board_lock(lapic->board);
    lapic->tpr = tpr;
    lapic_update(lapic);
    board_unlock(lapic->board);
}

static bool lapic_read_x2apic(struct lapic *lapic, unsigned reg, u64 *value)
{
    u32 low;
    if (!lapic_x2apic(lapic) || !lapic_read_reg(lapic, reg, &low))
        return false;
    *value = reg == REG_ICR ? lapic->icr : low;
    return true;
}

static bool lapic_write_x2apic(struct lapic *lapic, unsigned reg, u64 value)
{
    return lapic_x2apic(lapic) && !(value & lapic_reserved(lapic, reg)) &&
           lapic_write_reg(lapic, reg, value);
}

static bool lapic_op_read_msr(void *apic, u32 index, u64 *value)
{
    struct lapic *lapic = apic;
    bool ok = true;
    board_lock(lapic->board);
    lapic_pv_sync(lapic);
    if (index == MSR_APIC_BASE)
        *value = lapic->apic_base;
    else if (index == MSR_TSC_DEADLINE)
        *value = lapic_timer_deadline(lapic);
    else
        ok = index - MSR_X2APIC < 0x100 && lapic_read_x2apic(lapic, index - MSR_X2APIC, value);
    board_unlock(lapic->board);
    return ok;
}

static void lapic_reset_registers(struct lapic *lapic)
{
    lapic->tpr = lapic->ldr = 0;
    lapic->dfr = 15;
    lapic->svr = 0xff;
    memset(lapic->irr, 0, sizeof(lapic->irr));
    memset(lapic->isr, 0, sizeof(lapic->isr));
    memset(lapic->tmr, 0, sizeof(lapic->tmr));
    lapic->esr = lapic->esr_pending = 0;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        lapic->lvt[i] = LVT_MASKED;
    lapic->icr = 0;
    lapic->extint_latch = false;
    lapic->initial_count = lapic->divide = 0;
    lapic->timer_start = lapic->tsc_deadline = lapic->tsc_offset = 0;
    lapic->timer_runs = false;
    lapic->pv_eoi = 0;
    lapic->pv_eoi_offered = false;
    lapic_timer_arm(lapic);
}

/* What the processor sees of MSR_APIC_BASE. Its own thread writes that, or it stands still. */
static void lapic_update_page(struct lapic *lapic)
{
    bool xapic = lapic_enabled(lapic) && !lapic_x2apic(lapic);
    atomic_store(&lapic->vcpu->apic_page, xapic ? lapic->apic_base & PAGE_MASK : ~0ull);
    lapic->vcpu->cpu.apic_off = !lapic_enabled(lapic);
}

/* 10.12.5: the state is EN and EXTD; x2APIC is left only by disabling, and disabled only by way
 * of xAPIC left for x2APIC. */
static bool lapic_write_base(struct lapic *lapic, u64 value)
{
    u64 valid = APIC_BASE_BSP | APIC_BASE_EXTD | APIC_BASE_ENABLE |
                (bits_low(apic_bus_phys_bits(lapic->bus)) & PAGE_MASK);
    bool was_on = lapic_enabled(lapic), was_x2 = lapic_x2apic(lapic);
    bool on = value & APIC_BASE_ENABLE, x2 = value & APIC_BASE_EXTD;
    if ((value & ~valid) || (x2 && !on) || (x2 && !was_on) || (was_x2 && on && !x2))
        return false;
    lapic->apic_base = value;
    if (was_on && !on) {
        lapic_reset_registers(lapic);
        lapic->xapic_id = (u8)lapic->vcpu->index;
    }
    lapic_update_page(lapic);
    lapic_update(lapic);
    return true;
}

static bool lapic_op_write_msr(void *apic, u32 index, u64 value)
{
    struct lapic *lapic = apic;
    bool ok = true;
    board_lock(lapic->board);
    lapic_pv_sync(lapic);
    if (index == MSR_TSC_DEADLINE)
        lapic_timer_set_deadline(lapic, value);
    else if (index == MSR_APIC_BASE)
        ok = lapic_write_base(lapic, value);
    else
        ok = index - MSR_X2APIC < 0x100 && lapic_write_x2apic(lapic, index - MSR_X2APIC, value);
    board_unlock(lapic->board);
    return ok;
}

/* The xAPIC page: 32-bit registers, 16 bytes apart; the bytes between read as zero (10.4.1). */
static u64 lapic_op_read(void *apic, u64 offset, unsigned size)
{
    struct lapic *lapic = apic;
    u32 value = 0;
    if ((offset & 15) >= 4)
        return 0;
    board_lock(lapic->board);
    lapic_pv_sync(lapic);
    if (!lapic_read_reg(lapic, (unsigned)(offset >> 4), &value))
        lapic_error(lapic, ESR_ILLEGAL_REGISTER);
    board_unlock(lapic->board);
    return (u64)value >> 8 * (offset & 3) & bits_low(8 * size);
}

static void lapic_op_write(void *apic, u64 offset, unsigned size, u64 value)
{
    struct lapic *lapic = apic;
    if ((offset & 15) || size < 4)
        return;
    board_lock(lapic->board);
    lapic_pv_sync(lapic);
    if (!lapic_write_reg(lapic, (unsigned)(offset >> 4), (u32)value))
        lapic_error(lapic, ESR_ILLEGAL_REGISTER);
    board_unlock(lapic->board);
}

/* INIT keeps MSR_APIC_BASE and the APIC id (10.4.7.3, 10.12.5.1). */
static void lapic_op_init(void *apic)
{
    struct lapic *lapic = apic;
    board_lock(lapic->board);
    lapic_reset_registers(lapic);
    lapic_update(lapic);
    board_unlock(lapic->board);
}

static const struct apic_ops lapic_ops = {
    .acknowledge = lapic_op_acknowledge,
    .read_tpr = lapic_op_read_tpr,
    .write_tpr = lapic_op_write_tpr,
    .read_msr = lapic_op_read_msr,
    .write_msr = lapic_op_write_msr,
    .read = lapic_op_read,
    .write = lapic_op_write,
    .init = lapic_op_init,
};

/* -- The device ---------------------------------------------------------------------------- */

static void lapic_reset(void *device)
{
    struct lapic *lapic = device;
    bool bsp = lapic->vcpu->index == 0;
    lapic->apic_base = LAPIC_ADDRESS | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0);
    lapic->xapic_id = (u8)lapic->vcpu->index;
    lapic_reset_registers(lapic);
    if (bsp) { /* virtual wire mode, MultiProcessor Specification 1.4, 3.6.2.2 */
        lapic->lvt[LVT_LINT0] = APIC_EXTINT << 8;
        lapic->lvt[LVT_LINT1] = APIC_NMI << 8;
    }
    lapic_update_page(lapic);
    lapic_update(lapic);
}

static bool lapic_post_load(void *device)
{
    struct lapic *lapic = device;
    if (lapic_x2apic(lapic) && !lapic_enabled(lapic))
        return false;
    if ((lapic->divide & ~0xbu) || (lapic->dfr & ~15u))
        return false;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        if (lapic->lvt[i] & ~(lvt_writable[i] | LVT_READ_ONLY))
            return false;
    lapic_set_id(lapic, lapic->xapic_id);
    lapic_timer_arm(lapic);
    lapic_update_page(lapic);
    lapic_update(lapic);
    return true;
}

static void lapic_destroy(void *device)
{
    struct lapic *lapic = device;
    timer_cancel(&lapic->board->clock, &lapic->timer);
    lapic->vcpu->apic = NULL;
    free(lapic);
}

static const struct field lapic_fields[] = {
    FIELD(struct lapic, apic_base),
    FIELD(struct lapic, xapic_id),
    FIELD(struct lapic, tpr),
    FIELD(struct lapic, ldr),
    FIELD(struct lapic, dfr),
    FIELD(struct lapic, svr),
    FIELD_ARRAY(struct lapic, irr),
    FIELD_ARRAY(struct lapic, isr),
    FIELD_ARRAY(struct lapic, tmr),
    FIELD(struct lapic, esr),
    FIELD(struct lapic, esr_pending),
    FIELD_ARRAY(struct lapic, lvt),
    FIELD(struct lapic, icr),
    FIELD_ARRAY(struct lapic, lint),
    FIELD(struct lapic, extint_latch),
    FIELD(struct lapic, initial_count),
    FIELD(struct lapic, divide),
    FIELD(struct lapic, timer_start),
    FIELD(struct lapic, timer_runs),
    FIELD(struct lapic, tsc_deadline),
    FIELD(struct lapic, tsc_offset),
    FIELD(struct lapic, pv_eoi),
    FIELD(struct lapic, pv_eoi_offered),
};

static const struct device_class lapic_class = {
    .name = "lapic",
    .version = 3,
    .fields = lapic_fields,
    .n_fields = ARRAY_LEN(lapic_fields),
    .reset = lapic_reset,
    .post_load = lapic_post_load,
    .destroy = lapic_destroy,
};

struct lapic *lapic_create(struct apic_bus *bus, struct vcpu *vcpu)
{
    struct lapic *lapic = calloc(1, sizeof(*lapic));
    ensure(lapic);
    lapic->bus = bus;
    lapic->board = apic_bus_board(bus);
    lapic->vcpu = vcpu;
    lapic_timer_init(lapic);
    apic_bus_attach(bus, lapic);
    vcpu->apic = lapic;
    vcpu->apic_ops = &lapic_ops;
    device_add(lapic->board, &lapic->device, &lapic_class, lapic);
    lapic_reset(lapic);
    return lapic;
}
