/* Which boot protocol an image speaks, see boot.h. */
#include "boot/boot.h"

#include "boot/layout.h"
#include "memory/pmap.h"
#include "platform/board.h"

struct protocol {
    enum boot_kind kind;
    bool (*probe)(const struct boot_image *kernel);
    bool (*load)(const struct boot_config *config, struct x86_cpu *cpu, struct error *err);
};

/* In the order in which they are tried: an ELF file may carry a multiboot header and a PVH
 * note. */
static const struct protocol protocols[] = {
    {BOOT_LINUX, linux_probe, linux_load},
    {BOOT_MULTIBOOT, multiboot_probe, multiboot_load},
    {BOOT_PVH, pvh_probe, pvh_load},
};

static const struct protocol *find_protocol(const struct boot_image *kernel)
{
    for (unsigned i = 0; i < ARRAY_LEN(protocols); i++)
        if (protocols[i].probe(kernel))
            return &protocols[i];
    return NULL;
}

enum boot_kind boot_probe(const struct boot_image *kernel)
{
    const struct protocol *protocol = find_protocol(kernel);
    return protocol ? protocol->kind : BOOT_UNKNOWN;
}

bool boot_load(const struct boot_config *config, struct x86_cpu *cpu, struct error *err)
{
    const struct protocol *protocol = find_protocol(&config->kernel);
    if (!protocol)
        return error_set(
            err,
            "-kernel '%s' is no Linux bzImage, no multiboot kernel and no ELF file "
            "with a PVH entry",
            config->kernel.name);
    if (pmap_below_4g(config->board->pmap) < 2 * HIGH_START)
        return error_set(err, "a kernel needs at least 2 MiB of memory; give more with -m");
    return protocol->load(config, cpu, err);
}
