/* The files a machine starts from, see kernel.h. */
#include "machine/kernel.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "machine/bios_rest.h"

static bool is_multiboot(const struct kernel *kernel, bool *multiboot, struct error *err)
{
    struct boot_image image = {.name = kernel->file.path};
    u8 *data;
    if (!file_read(&kernel->file, &data, &image.size, err))
        return false;
    image.data = data;
    *multiboot = boot_probe(&image) == BOOT_MULTIBOOT;
    file_release(data, image.size);
    return true;
}

static bool add_module(struct kernel *kernel, const char *path, const char *command_line,
                       struct error *err)
{
    if (kernel->n_modules == KERNEL_MAX_MODULES)
        return error_set(err, "-initrd: at most %u modules", KERNEL_MAX_MODULES);
    if (!file_open(&kernel->modules[kernel->n_modules], "-initrd", path, err))
        return false;
    kernel->module_lines[kernel->n_modules++] = command_line;
    return true;
}

/* "FILE ARGUMENTS,..." in kernel->names, cut into pieces in place. A multiboot module's string
 * begins with its file name, as boot loaders have it. */
static bool split_modules(struct kernel *kernel, const char *list, struct error *err)
{
    /* Twice: once cut at the spaces for the paths, once whole for the command lines. */
    size_t size = strlen(list) + 1;
    kernel->names = malloc(2 * size);
    ensure(kernel->names);
    char *paths = kernel->names;
    char *lines = kernel->names + size;
    memcpy(paths, list, size);
    memcpy(lines, list, size);
    for (size_t at = 0; at < size;) {
        size_t length = strcspn(lines + at, ",");
        lines[at + length] = paths[at + length] = 0;
        paths[at + strcspn(paths + at, " ")] = 0;
        if (!add_module(kernel, paths + at, lines + at, err))
            return false;
        at += length + 1;
    }
    return true;
}

bool kernel_open(struct kernel *kernel, const char *path, const char *initrd,
                 const char *command_line, struct error *err)
{
    bool multiboot = false;
    *kernel = (struct kernel){.command_line = command_line};
    /* Scripts (kvm-unit-tests') look for QEMU's words, to see whether it got that far. */
    if (!file_open(&kernel->file, "-kernel: could not load kernel", path, err))
        return false;
    bool opened = !initrd || (is_multiboot(kernel, &multiboot, err) &&
                              (multiboot ? split_modules(kernel, initrd, err)
                                         : add_module(kernel, initrd, "", err)));
    if (!opened)
        kernel_close(kernel);
    return opened;
}

void kernel_close(struct kernel *kernel)
{
    file_close(&kernel->file);
    for (unsigned i = 0; i < kernel->n_modules; i++)
        file_close(&kernel->modules[i]);
    free(kernel->names);
    kernel->names = NULL;
    kernel->n_modules = 0;
}

bool kernel_read(const struct file *file, struct boot_image *image, struct error *err)
{
    u8 *data;
    image->name = file->path;
    if (!file_read(file, &data, &image->size, err))
        return false;
    image->data = data;
    return true;
}

bool kernel_load(const struct kernel *kernel, struct board *board, u64 rsdp,
                 struct x86_cpu *cpu, struct error *err)
{
    struct boot_module modules[KERNEL_MAX_MODULES] = {0};
    struct boot_config config = {
        .board = board,
        .command_line = kernel->command_line,
        .modules = modules,
        .text_screen = kernel->text_screen,
        .rsdp = rsdp,
    };
    bool read = kernel_read(&kernel->file, &config.kernel, err);
    while (read && config.n_modules < kernel->n_modules) {
        struct boot_module *module = &modules[config.n_modules];
        module->command_line = kernel->module_lines[config.n_modules];
        read = kernel_read(&kernel->modules[config.n_modules], &module->image, err);
        config.n_modules += read;
    }
    bool loaded = read && boot_load(&config, cpu, err);
    if (loaded && boot_probe(&config.kernel) == BOOT_MULTIBOOT)
        bios_rest_interrupts(board);
    for (unsigned i = 0; i < config.n_modules; i++)
        file_release(modules[i].image.data, modules[i].image.size);
    file_release(config.kernel.data, config.kernel.size);
    return loaded;
}
