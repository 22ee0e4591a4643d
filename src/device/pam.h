/*
 * The programmable attribute map of an i440FX (data sheet 290549, 3.2.18): whether reads and
 * writes of the 13 segments of C0000h..FFFFFh go to RAM or to what lies on the bus behind. That
 * is the last 128 KiB below 4 GiB, the firmware, for E0000h and up, and nothing below.
 *
 * A frame has one machine page, so what is not shown is kept aside, and bytes move when a
 * segment changes over. One thing is not as in hardware: with reads from ROM and writes to RAM,
 * what is written is seen at once. Firmware that copies itself in place cannot tell.
 *
 * Everything here is called under the board lock.
 */
#pragma once

#include "platform/board.h"

#define PAM_REGISTERS 7
#define PAM_ALL_RAM   0x33 /* both segments of a register: reads and writes go to RAM */

struct pam;

/* Starts out with all segments as RAM. */
struct pam *pam_create(struct board *board);

/* Makes guest memory what the PAM_REGISTERS registers say; vCPUs see it at once where they may
 * write more, and at their next instruction boundary where they may write less. */
void pam_apply(struct pam *pam, const u8 *registers);
