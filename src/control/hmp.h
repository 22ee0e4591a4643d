/*
 * The text monitor's commands, in QEMU's words: `info registers`, `x /4i $pc`, `sendkey ret`.
 * The same lines arrive over QMP's human-monitor-command.
 *
 * Threads: the loop's, without the board lock.
 */
#pragma once

#include <stdio.h>

#include "control/control.h"

/* Carries out one line and writes what it says to `out`. `cpu` is the processor that registers
 * and addresses are of; `cpu N` changes it. */
void hmp_run(struct control *control, const char *line, unsigned *cpu, FILE *out);
