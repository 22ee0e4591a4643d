/*
 * The machine itself on the command line: memory, processors, the engines that run them, the
 * board's own devices and its clock. Each takes an option's argument; false: *err names the
 * option and the remedy.
 */
#pragma once

#include "cli/options.h"

bool board_set_memory(struct run_options *options, const char *value, struct error *err);
bool board_set_cpus(struct run_options *options, const char *value, struct error *err);
bool board_set_cpu(struct run_options *options, const char *value, struct error *err);
bool board_set_accel(struct run_options *options, const char *value, struct error *err);
bool board_set_machine(struct run_options *options, const char *value, struct error *err);
bool board_set_rtc(struct run_options *options, const char *value, struct error *err);

/* -device: what the board has of its own, or else what is plugged into it (cli/plugs.h). */
bool board_add_device(struct run_options *options, const char *value, struct error *err);
