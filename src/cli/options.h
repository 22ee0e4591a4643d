/*
 * The options of `doppel run`: one table that parsing, `--help` and the tests walk. Spellings
 * are QEMU's where QEMU has a word, with one dash or two.
 */
#pragma once

#include <stdio.h>

#include "control/control.h"
#include "machine/vm.h"

struct run_options {
    struct vm_config vm;
    struct log log;
    const char *log_file; /* -D */
    char accel[256];      /* what vm.engines point into */
    size_t accel_used;
    char boot_order[4], boot_once[4]; /* what vm.boot_order and boot_once point to */
    char texts[16384];                /* of -fw_cfg and -smbios; what vm points into */
    size_t texts_used;
    struct control_config control;
    char name[256];       /* what control.name points to */
    const char *pid_file; /* -pidfile */
    bool daemonize;
    bool serial_given;
    bool no_defaults;
    bool curses; /* -display curses */
    bool vga_given;
    bool snapshot;                   /* -snapshot: for every disk */
    const char *net_card, *net_back; /* -net nic and -net user, or NULL */
    u16 debug_port;                  /* of -device isa-debugcon and -debugcon; 0: the default */
    u32 virtio_drives; /* bits: disks of -drive if=virtio, which get their devices last */
    bool stats;
    bool verbose;
    bool help;
    bool log_help;
    bool accel_help;
    bool device_help, cpu_help, machine_help;
};

void options_init(struct run_options *options);

/* `argv` without program and verb, NULL at its end. False: *err names the option and the
 * remedy. */
bool options_parse(struct run_options *options, char **argv, struct error *err);

/* Fills in what follows from several options; false: they do not go together. */
bool options_finish(struct run_options *options, struct error *err);

/* The page of `doppel run --help`. */
void options_help(FILE *out);
