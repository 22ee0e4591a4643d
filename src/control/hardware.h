/*
 * The machine's hardware as monitors show it: the PCI bus, what the disks have done, the
 * networks. QMP gives the objects to its clients, the text monitor prints them.
 */
#pragma once

#include "control/control.h"

/* query-pci and query-blockstats: QEMU's PciInfo and BlockStats; new references. */
json_t *hardware_pci(struct control *control);
json_t *hardware_block_stats(struct control *control);

/* `info pci`, `info blockstats`, `info network` */
void hardware_print_pci(struct control *control, FILE *out);
void hardware_print_block_stats(struct control *control, FILE *out);
void hardware_print_networks(struct control *control, FILE *out);
