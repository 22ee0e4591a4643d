/* The options that plug disks, networks and virtio devices into the machine. */
#pragma once

#include "cli/options.h"

/* -drive */
bool plugs_add_drive(struct run_options *options, const char *value, struct error *err);
/* -netdev; -nic, which is -netdev and -device in one */
bool plugs_add_netdev(struct run_options *options, const char *value, struct error *err);
bool plugs_add_nic(struct run_options *options, const char *value, struct error *err);
/* -device virtio-...: `name` is the device's, `list` its properties. False with err->text
 * empty: no such device. */
bool plugs_add_device(struct run_options *options, const char *name, const char *list,
                      struct error *err);
/* Whether the guest gets a disk at all. */
bool plugs_have_disk(const struct plugs_config *plugs);
/* What follows from all of them together. */
bool plugs_finish(struct run_options *options, struct error *err);
