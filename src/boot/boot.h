/*
 * How a machine starts without firmware: a kernel image and what goes with it are put into
 * guest memory and the first processor is set to the state that the image's boot protocol
 * demands.
 *
 * Everything that comes in here is hostile (design, section 7): each field is checked before it
 * is used, and a bad image gives one clear line. Nothing is allocated, nothing is kept.
 *
 * Threads: while no vCPU of the board runs.
 */
#pragma once

#include "base/error.h"
#include "x86/cpu.h"

struct board;

/* A file's contents. `name` is what the user called it, for messages. */
struct boot_image {
    const char *name;
    const u8 *data;
    u64 size;
};

/* What a boot loader would load beside the kernel: an initial RAM disk, or a multiboot module
 * with its own command line ("" if it has none). */
struct boot_module {
    struct boot_image image;
    const char *command_line;
};

struct boot_config {
    struct board *board;
    struct boot_image kernel;
    const char *command_line; /* never NULL */
    const struct boot_module *modules;
    unsigned n_modules;
    bool text_screen; /* a VGA shows an empty text mode 3 */
    u64 rsdp;         /* where the ACPI RSDP lies, gpa; 0: nowhere */
};

enum boot_kind {
    BOOT_UNKNOWN,
    BOOT_LINUX,     /* bzImage: Documentation/arch/x86/boot.rst */
    BOOT_PVH,       /* ELF with a Xen PVH entry note: Xen docs/misc/pvh.pandoc */
    BOOT_MULTIBOOT, /* Multiboot Specification 0.6.96 */
};

/* Which protocol the image speaks; looks at its headers only. */
enum boot_kind boot_probe(const struct boot_image *kernel);

/*
 * Loads the kernel and sets `cpu`, which has been through x86_reset, to its entry state. False:
 * the image is not acceptable or does not fit, *err says what and the remedy; guest memory may
 * have been written by then.
 */
bool boot_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err);
