/*
 * Steering a machine from outside: any number of control sockets (QMP) and text monitors on
 * lines of the machine (host/char). All of them may be hostile: what they send is checked, and
 * what they do not read is bounded.
 *
 * Threads: everything in the VM's main thread. Commands run there, between two turns of the
 * loop, so no vCPU ever waits for a client.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "machine/vm.h"

#define CONTROL_MAX_MONITORS 8

struct monitor_config {
    unsigned line; /* which of vm_config.plugs.lines */
    bool qmp;      /* else text */
    bool pretty;   /* QMP: with line breaks */
};

struct control_config {
    const char *name;    /* -name; NULL: none */
    u8 uuid[16];         /* -uuid */
    const char *version; /* of Doppel */
    struct monitor_config monitors[CONTROL_MAX_MONITORS];
    unsigned n_monitors;
};

struct control;

/* After vm_create and before vm_run. The configuration is copied. */
struct control *control_create(struct vm *vm, const struct control_config *config);
/* Before vm_destroy. */
void control_destroy(struct control *control);

/* -- For the commands ---------------------------------------------------------------------- */

struct vm *control_vm(struct control *control);
const struct control_config *control_config(const struct control *control);
/* QEMU's version that the protocol is of, and Doppel's; a new reference. */
json_t *control_version(const struct control *control);
