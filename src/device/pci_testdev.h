/*
 * The PCI device that conformance suites expect, as QEMU's pci-testdev
 * (docs/specs/pci-testdev): 1b36:0005 with 4 KiB of memory in BAR 0 and 256 ports in BAR 1.
 * Each begins with a header:
 *
 *   0  test    write: starts test 0, 1 or 2; what cannot be started leaves no test
 *   1  width   of the write that the test asks for: 1; anything else: there is no such test
 *   4  offset  where to write, in this BAR
 *   8  data    what to write
 *   12 count   how many such writes there were since the start
 *   16 name    of the test, zero-terminated
 */
#pragma once

#include "device/pci.h"

struct pci_testdev;
/* `slot`: -1 for the first that is free. NULL: it is taken. Under the board lock. */
struct pci_testdev *pci_testdev_create(struct board *board, struct pci_host *host, int slot);
