/*
 * A board for tests: stepped clock, recording wires, vCPUs that never run, RAM where asked for,
 * and, for tests of everything at once, all devices wired as in a machine.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "device/acpi_pm.h"
#include "device/apic_bus.h"
#include "device/debug.h"
#include "device/fdc.h"
#include "device/fw_cfg.h"
#include "device/gsi.h"
#include "device/i8042.h"
#include "device/ide.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/parallel.h"
#include "device/pci.h"
#include "device/pflash.h"
#include "device/pic.h"
#include "device/piix4_pm.h"
#include "device/pit.h"
#include "device/pvclock.h"
#include "device/ps2.h"
#include "device/reset.h"
#include "device/rtc.h"
#include "device/serial.h"
#include "device/vga.h"
#include "device/testdev.h"
#include "platform/board.h"
#include "platform/device.h"
#include "platform/ram.h"
#include "platform/vcpu.h"

#define FIXTURE_LINES  32
#define FIXTURE_TSC_HZ 2000000000ull
#define FIXTURE_WALL   1000000000 /* 2001-09-09 01:46:40 UTC, a Sunday */

struct fixture {
    struct board board;
    struct log log;
    u64 now; /* virtual ns */
    struct vcpu *vcpus[4];

    /* What came out of the wires. */
    bool level[FIXTURE_LINES];
    unsigned rises[FIXTURE_LINES];

    /* What devices asked of the machine. */
    unsigned requests;
    enum board_request request;
    int exit_status;

    /* A character back end. */
    struct chardev chardev;
    u8 output[256];
    size_t output_len;
    unsigned rooms;
};

struct fixture *fixture_create(unsigned n_vcpus);
void fixture_destroy(struct fixture *f);
void fixture_add_ram(struct fixture *f, u64 bytes);

/* Lets time pass; each timer fires at its own deadline. */
void fixture_step(struct fixture *f, u64 ns);

/* A wire that ends here. */
struct irq_line fixture_line(struct fixture *f, unsigned n);

u8 in8(struct fixture *f, u16 port);
u16 in16(struct fixture *f, u16 port);
u32 in32(struct fixture *f, u16 port);
void out8(struct fixture *f, u16 port, u8 value);
void out16(struct fixture *f, u16 port, u16 value);
void out32(struct fixture *f, u16 port, u32 value);

/* A disk in memory; with `slow`, requests wait for fake_disk_answer. */
struct fake_disk {
    struct block block;
    u8 *data;
    bool slow;
    int error; /* what requests end with */
    unsigned flushes;
    struct block_request *waiting;
};

void fake_disk_init(struct fake_disk *disk, u64 size);
void fake_disk_destroy(struct fake_disk *disk);
/* Carries out what waits. */
void fake_disk_answer(struct fake_disk *disk);

/* All devices of a machine on the board. */
struct full_board {
    struct apic_bus *bus;
    struct pic *pic;
    struct ioapic *ioapic;
    struct gsi gsi;
    struct pci_host *pci;
    struct fw_cfg *fw_cfg;
    struct serial *serial;
    struct acpi_pm *acpi_pm;
    struct piix4_pm *piix4_pm;
    struct i8042 *i8042;
    struct pvclock *pvclock;
    struct input input;
    struct screen screen;
    struct screen_text text; /* what it showed last */
    struct fake_disk disk, cd, floppy, flash;
    struct pci_device card; /* one BAR of each kind, and MSI-X */
};

/* Needs a fixture with vCPUs and RAM. */
void full_board_init(struct full_board *full, struct fixture *f);

/* After the fixture. */
void full_board_destroy(struct full_board *full);

/* One access, time step or back-end event, chosen by three numbers: what the fuzzer does. */
void full_board_poke(struct full_board *full, struct fixture *f, u32 what, u32 where,
                     u64 value);
