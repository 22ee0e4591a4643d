/*
 * What a machine is started from: the kernel image and its modules as files, kept open and read
 * again at each reset.
 */
#pragma once

#include "boot/boot.h"
#include "host/file.h"

#define KERNEL_MAX_MODULES 64

struct kernel {
    struct file file;
    const char *command_line;
    char *names; /* what the modules' paths and command lines point into */
    struct file modules[KERNEL_MAX_MODULES];
    const char *module_lines[KERNEL_MAX_MODULES];
    unsigned n_modules;
    bool text_screen; /* see boot.h */
};

/*
 * Opens the kernel and `initrd` (NULL: none). For a multiboot kernel `initrd` is a list of
 * modules as QEMU has it: "FILE ARGUMENTS,FILE ARGUMENTS,..."; for any other one file.
 * `command_line` must live as long as the kernel.
 */
bool kernel_open(struct kernel *kernel, const char *path, const char *initrd,
                 const char *command_line, struct error *err);
void kernel_close(struct kernel *kernel);

/* A file of it, whole: `image` is valid until file_release of its data. */
bool kernel_read(const struct file *file, struct boot_image *image, struct error *err);

/* Reads the files and starts them on the vCPU: boot_load. */
bool kernel_load(const struct kernel *kernel, struct board *board, u64 rsdp,
                 struct x86_cpu *cpu, struct error *err);
