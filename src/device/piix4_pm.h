/*
 * The power management function of a PIIX4 (Intel 290562-001, chapter 7): 00:01.3, by which
 * firmware says where in I/O space ACPI's fixed hardware is (PMBA, PMREGMISC), and finds it.
 * There is no SMBus, and no SMM: DEVACTB says that it is set up already.
 */
#pragma once

#include "device/acpi_pm.h"
#include "device/pci.h"

struct piix4_pm;

struct piix4_pm *piix4_pm_create(struct board *board, struct pci_host *host,
                                 struct acpi_pm *pm);

/* After each reset: where firmware starts there are no registers until it places them, without
 * firmware they are at ACPI_PM_BASE. */
void piix4_pm_start(struct piix4_pm *piix4, bool firmware);

/* `moved` is called after each move: what describes the registers must follow. */
void piix4_pm_watch(struct piix4_pm *piix4, void (*moved)(void *opaque), void *opaque);
