/* A virtio driver for tests, see driver.h. */
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memory/pmap.h"

/* -- The machine --------------------------------------------------------------------------- */

static u64 rig_now(void *opaque)
{
    const struct rig *rig = opaque;
    return rig->now;
}

void rig_init(struct rig *rig)
{
    struct error err;
    memset(rig, 0, sizeof(*rig));
    rig->log.fd = 2;
    board_init(&rig->board, &rig->log);
    rig->board.clock = (struct clock){.now = rig_now, .opaque = rig};
    rig->board.pmap = pmap_create(16 * MiB, &err);
    assert_non_null(rig->board.pmap);
    rig->apic_bus = apic_bus_create(&rig->board, 46);
    rig->host = pci_host_create(&rig->board, &rig->gsi, rig->apic_bus);
}

void rig_destroy(struct rig *rig)
{
    board_destroy(&rig->board);
    pmap_destroy(rig->board.pmap);
}

/* -- Registers ----------------------------------------------------------------------------- */

u32 driver_pci_read(struct driver *driver, unsigned offset, unsigned size)
{
    struct board *board = &driver->rig->board;
    bus_write(board, BUS_PIO, 0xcf8, 4, 0x80000000 | driver->slot << 11 | (offset & 0xfc));
    return (u32)bus_read(board, BUS_PIO, 0xcfc + (offset & 3), size);
}

void driver_pci_write(struct driver *driver, unsigned offset, unsigned size, u32 value)
{
    struct board *board = &driver->rig->board;
    bus_write(board, BUS_PIO, 0xcf8, 4, 0x80000000 | driver->slot << 11 | (offset & 0xfc));
    bus_write(board, BUS_PIO, 0xcfc + (offset & 3), size, value);
}

u64 driver_read(struct driver *driver, u64 addr, unsigned size)
{
    return bus_read(&driver->rig->board, BUS_MMIO, addr, size);
}

void driver_write(struct driver *driver, u64 addr, unsigned size, u64 value)
{
    bus_write(&driver->rig->board, BUS_MMIO, addr, size, value);
}

static u64 bar_address(struct driver *driver, unsigned bar)
{
    u64 low = driver_pci_read(driver, PCI_BAR + 4 * bar, 4);
    u64 high = low & 4 ? driver_pci_read(driver, PCI_BAR + 4 * bar + 4, 4) : 0;
    return high << 32 | (low & ~15ull);
}

static void take_virtio_capability(struct driver *driver, u8 cap)
{
    u64 addr = bar_address(driver, driver_pci_read(driver, cap + 4u, 1)) +
               driver_pci_read(driver, cap + 8u, 4);
    switch (driver_pci_read(driver, cap + 3u, 1)) {
    case 1:
        driver->common = addr;
        break;
    case 2:
        driver->notify = addr;
        driver->notify_multiplier = driver_pci_read(driver, cap + 16u, 4);
        break;
    case 3:
        driver->isr = addr;
        break;
    case 4:
        driver->config = addr;
        break;
    case 5:
        driver->window = cap;
        break;
    default:
        fail();
    }
}

void driver_find(struct driver *driver, struct rig *rig, unsigned slot)
{
    memset(driver, 0, sizeof(*driver));
    driver->rig = rig;
    driver->slot = slot;
    driver->heap = 1 * MiB;
    board_lock(&rig->board);
    pci_host_assign(rig->host);
    board_unlock(&rig->board);
    assert_int_equal(driver_pci_read(driver, PCI_VENDOR, 2), 0x1af4);
    driver_pci_write(driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (u8 cap = (u8)driver_pci_read(driver, PCI_CAPABILITIES, 1); cap;
         cap = (u8)driver_pci_read(driver, cap + 1u, 1)) {
        u8 id = (u8)driver_pci_read(driver, cap, 1);
        if (id == PCI_CAP_VENDOR)
            take_virtio_capability(driver, cap);
        if (id == PCI_CAP_MSIX)
            driver->msix = bar_address(driver, driver_pci_read(driver, cap + 4u, 4) & 7);
    }
    assert_true(driver->common && driver->isr && driver->notify && driver->msix);
}

/* -- Interrupts ---------------------------------------------------------------------------- */

void driver_enable_msix(struct driver *driver)
{
    for (u8 cap = (u8)driver_pci_read(driver, PCI_CAPABILITIES, 1); cap;
         cap = (u8)driver_pci_read(driver, cap + 1u, 1))
        if (driver_pci_read(driver, cap, 1) == PCI_CAP_MSIX)
            driver_pci_write(driver, cap + 2u, 2, 0x8000);
}

bool driver_took_interrupt(struct driver *driver, unsigned n)
{
    bool pending = driver_read(driver, driver->msix + 0x800, 8) >> n & 1;
    driver_write(driver, driver->msix + 16ull * n + 12, 4, 0);
    driver_write(driver, driver->msix + 16ull * n + 12, 4, 1);
    return pending;
}

/* -- Initialization ------------------------------------------------------------------------ */

u64 driver_alloc(struct driver *driver, u64 len)
{
    u64 addr = driver->heap;
    driver->heap += align_up(len, 16);
    assert_true(driver->heap < 16 * MiB);
    return addr;
}

u8 driver_negotiate(struct driver *driver, u64 features)
{
    u64 common = driver->common;
    driver_write(driver, common + COMMON_STATUS, 1, 0);
    assert_int_equal(driver_read(driver, common + COMMON_STATUS, 1), 0);
    driver_write(driver, common + COMMON_STATUS, 1, 1);
    driver_write(driver, common + COMMON_STATUS, 1, 3);
    for (u32 half = 0; half < 2; half++) {
        driver_write(driver, common + COMMON_DRIVER_SELECT, 4, half);
        driver_write(driver, common + COMMON_DRIVER_FEATURE, 4, (u32)(features >> 32 * half));
    }
    driver_write(driver, common + COMMON_STATUS, 1, 11);
    driver->features = features;
    return (u8)driver_read(driver, common + COMMON_STATUS, 1);
}

void driver_setup_queue(struct driver *driver, unsigned queue)
{
    u64 common = driver->common;
    driver->queue[queue].desc = driver_alloc(driver, 16 * DRIVER_SIZE);
    driver->queue[queue].avail = driver_alloc(driver, 6 + 2 * DRIVER_SIZE);
    driver->queue[queue].used = driver_alloc(driver, 6 + 8 * DRIVER_SIZE);
    driver->queue[queue].avail_idx = driver->queue[queue].used_idx = 0;
    driver->queue[queue].next_desc = 0;
    driver_write(driver, common + COMMON_QUEUE_SELECT, 2, queue);
    driver_write(driver, common + COMMON_QUEUE_SIZE, 2, DRIVER_SIZE);
    driver_write(driver, common + COMMON_QUEUE_VECTOR, 2, queue + 1);
    driver_write(driver, common + COMMON_QUEUE_DESC, 8, driver->queue[queue].desc);
    /* As most guests do it: the halves of a 64-bit register. */
    driver_write(driver, common + COMMON_QUEUE_DRIVER, 4, (u32)driver->queue[queue].avail);
    driver_write(driver, common + COMMON_QUEUE_DRIVER + 4, 4, driver->queue[queue].avail >> 32);
    driver_write(driver, common + COMMON_QUEUE_DEVICE, 4, (u32)driver->queue[queue].used);
    driver_write(driver, common + COMMON_QUEUE_DEVICE + 4, 4, driver->queue[queue].used >> 32);
    driver_write(driver, common + COMMON_QUEUE_ENABLE, 2, 1);
    assert_int_equal(driver_read(driver, common + COMMON_QUEUE_ENABLE, 2), 1);
}

void driver_set_up(struct driver *driver, u64 features, unsigned queues)
{
    assert_int_equal(driver_negotiate(driver, features | DRIVER_VERSION), 11);
    driver_write(driver, driver->common + COMMON_CONFIG_VECTOR, 2, 0);
    for (unsigned i = 0; i < queues; i++)
        driver_setup_queue(driver, i);
}

void driver_go(struct driver *driver)
{
    driver_write(driver, driver->common + COMMON_STATUS, 1, 15);
    assert_int_equal(driver_read(driver, driver->common + COMMON_STATUS, 1), 15);
}

void driver_start(struct driver *driver, u64 features, unsigned queues)
{
    driver_set_up(driver, features, queues);
    driver_go(driver);
}

/* -- Rings --------------------------------------------------------------------------------- */

static void ram_put(struct driver *driver, u64 addr, u64 value, unsigned size)
{
    assert_true(ram_write(&driver->rig->board, gpa(addr), &value, size));
}

static u64 ram_get(struct driver *driver, u64 addr, unsigned size)
{
    u64 value = 0;
    assert_true(ram_read(&driver->rig->board, gpa(addr), &value, size));
    return value;
}

static void put_desc(struct driver *driver, u64 at, u64 addr, u32 len, u16 flags, u16 next)
{
    ram_put(driver, at, addr, 8);
    ram_put(driver, at + 8, len, 4);
    ram_put(driver, at + 12, flags, 2);
    ram_put(driver, at + 14, next, 2);
}

void driver_set_desc(struct driver *driver, unsigned queue, u16 n, u64 addr, u32 len, u16 flags,
                     u16 next)
{
    put_desc(driver, driver->queue[queue].desc + 16ull * n, addr, len, flags, next);
}

u16 driver_chain(struct driver *driver, unsigned queue, const struct piece *pieces, unsigned n,
                 bool indirect)
{
    u16 first = driver->queue[queue].next_desc % DRIVER_SIZE;
    u64 table = indirect ? driver_alloc(driver, 16ull * n) : driver->queue[queue].desc;
    for (unsigned i = 0; i < n; i++) {
        u16 at = (u16)(indirect ? i : (first + i) % DRIVER_SIZE);
        u16 next = (u16)(indirect ? i + 1 : (first + i + 1) % DRIVER_SIZE);
        u16 flags = (u16)((pieces[i].in ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0));
        put_desc(driver, table + 16ull * at, pieces[i].addr, pieces[i].len, flags, next);
    }
    if (indirect)
        driver_set_desc(driver, queue, first, table, 16 * n, DESC_INDIRECT, 0);
    driver->queue[queue].next_desc += (u16)(indirect ? 1 : n);
    return first;
}

void driver_offer(struct driver *driver, unsigned queue, u16 head)
{
    u16 at = driver->queue[queue].avail_idx++ % DRIVER_SIZE;
    ram_put(driver, driver->queue[queue].avail + 4 + 2ull * at, head, 2);
    ram_put(driver, driver->queue[queue].avail + 2, driver->queue[queue].avail_idx, 2);
}

void driver_notify(struct driver *driver, unsigned queue)
{
    driver_write(driver, driver->common + COMMON_QUEUE_SELECT, 2, queue);
    u64 off = driver_read(driver, driver->common + COMMON_QUEUE_NOTIFY_OFF, 2);
    driver_write(driver, driver->notify + off * driver->notify_multiplier, 2, queue);
}

u16 driver_used_index(struct driver *driver, unsigned queue)
{
    return (u16)ram_get(driver, driver->queue[queue].used + 2, 2);
}

bool driver_used(struct driver *driver, unsigned queue, u32 *id, u32 *len)
{
    if (driver_used_index(driver, queue) == driver->queue[queue].used_idx)
        return false;
    u64 at =
        driver->queue[queue].used + 4 + 8ull * (driver->queue[queue].used_idx++ % DRIVER_SIZE);
    *id = (u32)ram_get(driver, at, 4);
    *len = (u32)ram_get(driver, at + 4, 4);
    return true;
}
