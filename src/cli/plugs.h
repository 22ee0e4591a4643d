/* The options that plug networks and other devices into the machine; disks are drives.h's. */
#pragma once

#include "cli/options.h"

/* One more device; NULL: there are too many. */
struct plug_config *plugs_add(struct run_options *options, enum plug_kind kind,
                              struct error *err);
/* -netdev; -nic, which is -netdev and -device in one */
bool plugs_add_netdev(struct run_options *options, const char *value, struct error *err);
bool plugs_add_nic(struct run_options *options, const char *value, struct error *err);
/* QEMU's old -net nic and -net user, one of each, which plugs_join_net makes a -nic of when all
 * options were read. */
bool plugs_add_net(struct run_options *options, const char *value, struct error *err);
bool plugs_join_net(struct run_options *options, struct error *err);
/* -device: `name` is the device's, `list` its properties. False with err->text
 * empty: no such device. */
bool plugs_add_device(struct run_options *options, const char *name, const char *list,
                      struct error *err);
/* -device help */
void plugs_list_devices(FILE *out);
/* -debugcon WHERE, which is -chardev and -device isa-debugcon in one */
bool plugs_add_debugcon(struct run_options *options, const char *value, struct error *err);
/* -global isa-debugcon.iobase=PORT */
bool plugs_set_debug_port(struct run_options *options, const char *value, struct error *err);
/* Whether the guest gets a disk at all. */
bool plugs_have_disk(const struct plugs_config *plugs);
