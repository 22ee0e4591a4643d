/* The devices of the PC and how they are wired. */
#pragma once

#include "device/gsi.h"
#include "device/serial.h"
#include "machine/vm.h"
#include "platform/board.h"

struct pc {
    struct gsi gsi;
    struct serial *serial[VM_MAX_SERIAL];
};

/* Makes all devices on the board, whose vCPUs are there; `chars` are the serial lines' other
 * ends. `phys_bits`: the processors' physical address width. */
void pc_create(struct pc *pc, struct board *board, const struct vm_config *config,
               struct char_back *const *chars, unsigned phys_bits);

/* Writes the ACPI tables into guest memory; returns the RSDP's address. */
u64 pc_write_acpi(struct board *board, const struct vm_config *config);
