/* Running, standing still and ending, for vm.c; the public half is in vm.h. */
#pragma once

#include "machine/vm.h"

/* vm.c's: power-on state of everything, and the kernel, if any, loaded; the vCPUs are
 * parked. */
bool vm_reset(struct vm *vm, struct error *err);
/* Ends S3; the vCPUs are parked, and stay so. */
void vm_wake(struct vm *vm);

/* Tells the watchers what has happened to disks and trays; from the main thread. */
void runstate_tell_disks(struct vm *vm);

/* The guest set its clock; under the board lock, any thread. */
void runstate_clock_set(void *vm, s64 offset);

/* Before the back ends are opened. */
void runstate_create(struct vm *vm);
