/* Steal time, see steal.h. */
#include "device/steal.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "platform/device.h"
#include "platform/ram.h"

#define STEAL_ENABLE   BIT(0)
#define STEAL_RESERVED 0x3eu /* the structure is aligned to 64 bytes */

/* struct kvm_steal_time. */
#define VERSION_OFFSET   8
#define PREEMPTED_OFFSET 16
#define PREEMPTED        BIT(0)
#define FLUSH_TLB        BIT(1)

#define MAX_CPUS 255

struct steal {
    struct device device;
    struct board *board;
    u64 (*run_delay)(void *opaque, unsigned index);
    void *opaque;
    /* Written under the board lock by the vCPU's own thread, which may read it without. */
    u64 msr[MAX_CPUS];
    u64 stolen[MAX_CPUS]; /* ns, as told */
    u64 seen[MAX_CPUS];   /* run_delay when it was told; of this host */
};

static struct gpa place(u64 msr, unsigned offset)
{
    return gpa((msr & ~(u64)(STEAL_ENABLE | STEAL_RESERVED)) + offset);
}

u64 steal_read_msr(struct steal *steal, const struct vcpu *vcpu)
{
    return steal->msr[vcpu->index];
}

bool steal_write_msr(struct steal *steal, const struct vcpu *vcpu, u64 value)
{
    unsigned i = vcpu->index;
    if (value & STEAL_RESERVED)
        return false;
    board_lock(steal->board);
    steal->msr[i] = value;
    steal->seen[i] = steal->run_delay(steal->opaque, i);
    steal_update(steal, vcpu);
    board_unlock(steal->board);
    return true;
}

void steal_update(struct steal *steal, const struct vcpu *vcpu)
{
    unsigned i = vcpu->index;
    u64 msr = steal->msr[i];
    u32 version;
    if (!(msr & STEAL_ENABLE))
        return;
    u64 delay = steal->run_delay(steal->opaque, i);
    steal->stolen[i] += delay - steal->seen[i];
    steal->seen[i] = delay;
    if (!ram_read(steal->board, place(msr, VERSION_OFFSET), &version, sizeof(version)))
        return;
    /* Odd while it changes. */
    version = (version | 1) + 2;
    ram_write(steal->board, place(msr, VERSION_OFFSET), &version, sizeof(version));
    ram_write(steal->board, place(msr, 0), &steal->stolen[i], sizeof(u64));
    version++;
    ram_write(steal->board, place(msr, VERSION_OFFSET), &version, sizeof(version));
}

void steal_sleeps(struct steal *steal, const struct vcpu *vcpu)
{
    u64 msr = steal->msr[vcpu->index];
    if (msr & STEAL_ENABLE)
        ram_exchange8(steal->board, place(msr, PREEMPTED_OFFSET), PREEMPTED);
}

bool steal_wakes(struct steal *steal, const struct vcpu *vcpu)
{
    u64 msr = steal->msr[vcpu->index];
    return msr & STEAL_ENABLE &&
           ram_exchange8(steal->board, place(msr, PREEMPTED_OFFSET), 0) & FLUSH_TLB;
}

static void steal_reset(void *device)
{
    struct steal *steal = device;
    memset(steal->msr, 0, sizeof(steal->msr));
    memset(steal->stolen, 0, sizeof(steal->stolen));
}

static bool steal_post_load(void *device)
{
    struct steal *steal = device;
    for (unsigned i = 0; i < steal->board->n_vcpus; i++)
        steal->seen[i] = steal->run_delay(steal->opaque, i);
    return true;
}

static void steal_destroy(void *device)
{
    free(device);
}

static const struct field steal_fields[] = {
    FIELD_ARRAY(struct steal, msr),
    FIELD_ARRAY(struct steal, stolen),
};

static const struct device_class steal_class = {
    .name = "steal",
    .version = 1,
    .fields = steal_fields,
    .n_fields = ARRAY_LEN(steal_fields),
    .reset = steal_reset,
    .post_load = steal_post_load,
    .destroy = steal_destroy,
};

struct steal *steal_create(struct board *board, u64 (*run_delay)(void *opaque, unsigned index),
                           void *opaque)
{
    struct steal *steal = calloc(1, sizeof(*steal));
    ensure(steal);
    steal->board = board;
    steal->run_delay = run_delay;
    steal->opaque = opaque;
    device_add(board, &steal->device, &steal_class, steal);
    return steal;
}
