/* The KVM paravirtual clock, see pvclock.h. */
#include "device/pvclock.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/apic_bus.h"
#include "platform/device.h"
#include "platform/ram.h"

#define SYSTEM_TIME_ENABLE BIT(0)
#define FLAG_TSC_STABLE    BIT(0)

/* What the guest reads: system time = system_time +
 * ((tsc - tsc_timestamp) shifted left by tsc_shift) * tsc_to_system_mul / 2^32. */
struct pvclock_time {
    u32 version; /* odd while it changes */
    u32 pad0;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 pad[2];
};

struct pvclock_wall {
    u32 version;
    u32 sec;
    u32 nsec;
};

struct pvclock {
    struct device device;
    struct board *board;
    u32 mul;
    s8 shift;

    /* One moment for all vCPUs, so that their clocks are the same line. Host TSC. */
    u64 base_tsc, base_ns;
    bool has_base;
    u64 system_time[APIC_MAX_CPUS]; /* the MSR by vCPU */
    u64 wall_clock;
    u32 version;
};

/* The multiplier with its 31st bit set, for the most precision. */
static void pvclock_scale(struct pvclock *pvclock)
{
    u64 hz = pvclock->board->tsc_hz;
    u128 ratio = ((u128)NS_PER_S << 64) / hz; /* ns a tick, 64.64 */
    pvclock->shift = 0;
    while (ratio >> 64) {
        ratio >>= 1;
        pvclock->shift++;
    }
    while (!(ratio >> 63)) {
        ratio <<= 1;
        pvclock->shift--;
    }
    pvclock->mul = (u32)(ratio >> 32);
}

static void pvclock_take_base(struct pvclock *pvclock, struct vcpu *vcpu)
{
    pvclock->base_ns = clock_now(&pvclock->board->clock);
    pvclock->base_tsc = vcpu->cpu.ops->tsc(&vcpu->cpu);
    pvclock->has_base = true;
}

static void pvclock_publish(struct pvclock *pvclock, struct vcpu *vcpu)
{
    u64 msr = pvclock->system_time[vcpu->index];
    if (!(msr & SYSTEM_TIME_ENABLE))
        return;
    if (!pvclock->has_base)
        pvclock_take_base(pvclock, vcpu);
    struct gpa at = gpa(msr & ~SYSTEM_TIME_ENABLE);
    pvclock->version += 2;
    struct pvclock_time time = {
        .version = pvclock->version | 1,
        .tsc_timestamp = pvclock->base_tsc + vcpu->cpu.tsc_offset,
        .system_time = pvclock->base_ns,
        .tsc_to_system_mul = pvclock->mul,
        .tsc_shift = pvclock->shift,
        .flags = FLAG_TSC_STABLE,
    };
    u32 even = time.version + 1;
    ram_write(pvclock->board, at, &time, sizeof(time));
    ram_write(pvclock->board, at, &even, sizeof(even));
}

/* The wall-clock time at which system time was zero. */
static void pvclock_publish_wall(struct pvclock *pvclock)
{
    const struct clock *clock = &pvclock->board->clock;
    s64 wall = clock_wall(clock);
    u64 now = clock_now(clock);
    s64 ns = wall * (s64)NS_PER_S - (s64)now;
    pvclock->version += 2;
    struct pvclock_wall time = {.version = pvclock->version | 1,
                                .sec = (u32)(ns / (s64)NS_PER_S),
                                .nsec = (u32)(ns % (s64)NS_PER_S)};
    u32 even = time.version + 1;
    ram_write(pvclock->board, gpa(pvclock->wall_clock), &time, sizeof(time));
    ram_write(pvclock->board, gpa(pvclock->wall_clock), &even, sizeof(even));
}

bool pvclock_read_msr(struct pvclock *pvclock, struct vcpu *vcpu, u32 index, u64 *value)
{
    if (index != MSR_KVM_SYSTEM_TIME && index != MSR_KVM_WALL_CLOCK)
        return false;
    board_lock(pvclock->board);
    *value =
        index == MSR_KVM_WALL_CLOCK ? pvclock->wall_clock : pvclock->system_time[vcpu->index];
    board_unlock(pvclock->board);
    return true;
}

bool pvclock_write_msr(struct pvclock *pvclock, struct vcpu *vcpu, u32 index, u64 value)
{
    bool system_time = index == MSR_KVM_SYSTEM_TIME;
    if (!system_time && index != MSR_KVM_WALL_CLOCK)
        return false;
    /* Both structures are 4-byte aligned; bit 0 of the first is the enable. */
    if (value & (system_time ? 2 : 3))
        return false;
    board_lock(pvclock->board);
    if (system_time) {
        pvclock->system_time[vcpu->index] = value;
        pvclock_publish(pvclock, vcpu);
    } else {
        pvclock->wall_clock = value;
        pvclock_publish_wall(pvclock);
    }
    board_unlock(pvclock->board);
    return true;
}

void pvclock_refresh(struct pvclock *pvclock)
{
    struct board *board = pvclock->board;
    pvclock->has_base = false;
    for (unsigned i = 0; i < board->n_vcpus; i++)
        pvclock_publish(pvclock, board->vcpus[i]);
}

static void pvclock_reset(void *device)
{
    struct pvclock *pvclock = device;
    memset(pvclock->system_time, 0, sizeof(pvclock->system_time));
    pvclock->wall_clock = 0;
    pvclock->version = 0;
    pvclock->has_base = false;
}

static void pvclock_destroy(void *device)
{
    free(device);
}

/* The base is of this host's TSC and not kept: the machine refreshes after a restore. */
static const struct field pvclock_fields[] = {
    FIELD_ARRAY(struct pvclock, system_time),
    FIELD(struct pvclock, wall_clock),
    FIELD(struct pvclock, version),
};

static const struct device_class pvclock_class = {
    .name = "pvclock",
    .version = 1,
    .fields = pvclock_fields,
    .n_fields = ARRAY_LEN(pvclock_fields),
    .reset = pvclock_reset,
    .destroy = pvclock_destroy,
};

struct pvclock *pvclock_create(struct board *board)
{
    struct pvclock *pvclock = calloc(1, sizeof(*pvclock));
    ensure(pvclock && board->tsc_hz);
    pvclock->board = board;
    pvclock_scale(pvclock);
    device_add(board, &pvclock->device, &pvclock_class, pvclock);
    return pvclock;
}
