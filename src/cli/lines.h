/*
 * The options that name lines of bytes and who uses them: serial lines, -chardev, monitors.
 * Each line becomes one of vm.plugs.lines.
 */
#pragma once

#include "cli/options.h"

/* -chardev KIND,id=ID,... */
bool lines_add(struct run_options *options, const char *value, struct error *err);
/* A line in -serial's words: an old one by chardev:ID, or a new one, which gets the label, and
 * of which mon: gives a share to the text monitor. */
bool lines_find(struct run_options *options, const char *option, const char *label,
                const char *where, unsigned *line, struct error *err);
/* -serial WHERE */
bool lines_add_serial(struct run_options *options, const char *value, struct error *err);
/* -monitor, -qmp, -qmp-pretty WHERE */
bool lines_add_monitor(struct run_options *options, const char *value, struct error *err);
bool lines_add_qmp(struct run_options *options, const char *value, struct error *err);
bool lines_add_qmp_pretty(struct run_options *options, const char *value, struct error *err);
/* -mon chardev=ID,mode=control|readline */
bool lines_add_mon(struct run_options *options, const char *value, struct error *err);
/* The line that a device's chardev=ID names, for one more user. */
bool lines_use(struct run_options *options, const char *option, const char *id, unsigned *line,
               struct error *err);
/* What follows from all of them together: the lines that come without being asked for. */
bool lines_finish(struct run_options *options, struct error *err);
