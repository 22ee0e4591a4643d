/* Firmware and what it is told, see firmware.h. */
#include "machine/firmware.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "boot/firmware.h"
#include "boot/linux_bios.h"
#include "device/acpi_pm.h"
#include "device/piix4_pm.h"
#include "host/file.h"
#include "machine/acpi.h"
#include "machine/acpi_loader.h"
#include "memory/pmap.h"

#define E820_RAM 1
#define ROM_MAX  (1 * MiB)

/* SeaBIOS tries nothing behind this line of "bootorder". */
#define BOOT_HALT "HALT\n"

/* CMOS memory, as QEMU's machines use it */
#define CMOS_SHUTDOWN  0x0f /* why there was a reset */
#define SHUTDOWN_S3    0xfe
#define CMOS_FLOPPIES  0x10
#define CMOS_EQUIPMENT 0x14
#define CMOS_BOOT_3RD  0x38 /* bits 7:4; the rest is flags */
#define CMOS_BOOT      0x3d /* bits 3:0 the first device, 7:4 the second */
#define CMOS_MORE_CPUS 0x5f

#define BOOT_NO_FLOPPY_CHECK BIT(0) /* one without a boot sector's signature will do */

#define EQUIPMENT_FLOPPY BIT(0)
#define EQUIPMENT_FPU    BIT(1)
#define EQUIPMENT_MOUSE  BIT(2)

struct e820_entry {
    u64 addr, len;
    u32 type;
} __attribute__((packed));

struct firmware_files {
    u8 tables[ACPI_MAX_SIZE];
    struct acpi_loader_entry loader[ACPI_LOADER_MAX];
    unsigned n_loader;
    struct e820_entry e820[2];
    char boot_order[4096];
    const struct pc *pc;
    const struct board *board;
    const struct vm_config *config;
    u8 smbios[SMBIOS_MAX_SIZE], smbios_anchor[SMBIOS_ANCHOR_SIZE];
    u16 menu_wait;
    s32 fail_wait;
    struct {
        u8 *data; /* of a file; NULL: a text's */
        u64 size;
    } blobs[VM_MAX_BLOBS];
    struct boot_image kernel, initrd; /* what firmware starts */
    struct linux_bios *linux_bios;
    u16 console; /* the port of the serial line that has the screen's text */
};

bool firmware_read_rom(const char *path, const char *option, u8 **rom, u64 *size,
                       struct error *err)
{
    struct file file;
    if (!file_open(&file, option, path, err))
        return false;
    bool read = file_read(&file, rom, size, err);
    file_close(&file);
    if (!read)
        return false;
    if (*size && *size <= ROM_MAX)
        return true;
    file_release(*rom, *size);
    *rom = NULL;
    return error_set(err, "%s: '%s' is no option ROM: it has %llu bytes", option, path,
                     (unsigned long long)*size);
}

bool firmware_open(const char *path, struct board *board, struct error *err)
{
    struct boot_image image = {.name = path};
    struct file file;
    u8 *data;
    if (!file_open(&file, "-bios", path, err))
        return false;
    bool read = file_read(&file, &data, &image.size, err);
    file_close(&file);
    if (!read)
        return false;
    image.data = data;
    bool mapped = firmware_map(board, &image, err);
    file_release(data, image.size);
    return mapped;
}

static bool read_blobs(struct firmware_files *files, struct error *err)
{
    const struct vm_config *config = files->config;
    for (unsigned i = 0; i < config->n_blobs; i++) {
        const struct fw_cfg_blob *blob = &config->blobs[i];
        struct file file;
        if (blob->text)
            continue;
        if (!file_open(&file, "-fw_cfg", blob->path, err))
            return false;
        bool read = file_read(&file, &files->blobs[i].data, &files->blobs[i].size, err);
        file_close(&file);
        if (!read)
            return false;
    }
    return true;
}

static void add_file(struct fw_cfg *fw, const char *name, const void *data, size_t size)
{
    ensure(fw_cfg_add_file(fw, name, data, (u32)size));
}

static void add_memory_map(struct firmware_files *files, const struct pc *pc,
                           const struct pmap *pmap)
{
    u64 above = pmap_above_4g(pmap);
    files->e820[0] = (struct e820_entry){0, pmap_below_4g(pmap), E820_RAM};
    files->e820[1] = (struct e820_entry){4 * GiB, above, E820_RAM};
    add_file(pc->fw_cfg, "etc/e820", files->e820, (above ? 2 : 1) * sizeof(struct e820_entry));
}

/* Builds the tables. Firmware places ACPI's registers before it asks for tables, which name
 * them: each move makes new ones of the same size. */
static size_t build_acpi(struct firmware_files *files)
{
    return pc_build_acpi(files->pc, files->board, files->config, (u32)-ACPI_FIRST,
                         files->tables);
}

static void rebuild_acpi(void *opaque)
{
    struct firmware_files *files = opaque;
    build_acpi(files);
    acpi_loader_clear_sums(files->tables, files->loader, files->n_loader);
}

static void add_acpi(struct firmware_files *files, const struct pc *pc)
{
    size_t size = build_acpi(files);
    files->n_loader = acpi_loader_build(files->tables, files->loader);
    acpi_loader_clear_sums(files->tables, files->loader, files->n_loader);
    piix4_pm_watch(pc->piix4_pm, rebuild_acpi, files);
    add_file(pc->fw_cfg, ACPI_LOADER_RSDP, files->tables, ACPI_RSDP_SIZE);
    add_file(pc->fw_cfg, ACPI_LOADER_TABLES, files->tables + ACPI_FIRST, size - ACPI_FIRST);
    add_file(pc->fw_cfg, "etc/table-loader", files->loader,
             files->n_loader * sizeof(files->loader[0]));
}

/* Floppy 1, hard disk 2, CD 3, network 4. */
static u8 boot_device(char letter)
{
    static const char letters[] = "acdn";
    const char *at = letter ? strchr(letters, letter == 'b' ? 'a' : letter) : NULL;
    return at ? (u8)(at - letters + 1) : 0;
}

static void set_boot_order(struct rtc *rtc, const char *order, u8 flags)
{
    u8 device[3] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(device) && order[i]; i++)
        device[i] = boot_device(order[i]);
    rtc_set_cmos(rtc, CMOS_BOOT, (u8)(device[1] << 4 | device[0]));
    rtc_set_cmos(rtc, CMOS_BOOT_3RD, (u8)(device[2] << 4 | flags));
}

static void set_floppies(struct rtc *rtc, u8 types)
{
    unsigned drives = !!(types >> 4) + !!(types & 15);
    rtc_set_cmos(rtc, CMOS_FLOPPIES, types);
    rtc_set_cmos(rtc, CMOS_EQUIPMENT,
                 (u8)(EQUIPMENT_FPU | EQUIPMENT_MOUSE |
                      (drives ? EQUIPMENT_FLOPPY | (drives - 1) << 6 : 0)));
}

static void add_smbios(struct firmware_files *files, const struct pc *pc)
{
    size_t size =
        pc_build_smbios(files->board, files->config, 0, files->smbios, files->smbios_anchor);
    if (!size)
        return;
    add_file(pc->fw_cfg, "etc/smbios/smbios-tables", files->smbios, size);
    add_file(pc->fw_cfg, "etc/smbios/smbios-anchor", files->smbios_anchor,
             sizeof(files->smbios_anchor));
}

/* What SeaBIOS reads of -boot, and what the user gave by -fw_cfg. */
static bool add_wishes(struct firmware_files *files, const struct pc *pc, struct error *err)
{
    const struct vm_config *config = files->config;
    files->menu_wait = htole16(config->boot_menu_wait);
    if (config->boot_menu_wait)
        add_file(pc->fw_cfg, "etc/boot-menu-wait", &files->menu_wait, 2);
    files->fail_wait = (s32)htole32((u32)config->boot_fail_wait);
    if (config->boot_fail_wait)
        add_file(pc->fw_cfg, "etc/boot-fail-wait", &files->fail_wait, 4);
    if (!read_blobs(files, err))
        return false;
    for (unsigned i = 0; i < config->n_blobs; i++) {
        const struct fw_cfg_blob *blob = &config->blobs[i];
        const void *data = blob->text ? (const void *)blob->text : files->blobs[i].data;
        u64 size = blob->text ? strlen(blob->text) : files->blobs[i].size;
        if (size > UINT32_MAX || !fw_cfg_add_file(pc->fw_cfg, blob->name, data, (u32)size))
            return error_set(err, "-fw_cfg: no room for '%.60s'", blob->name);
    }
    return true;
}

void firmware_start(struct pc *pc, const struct vm_config *config, bool first)
{
    const char *order = first && config->boot_once ? config->boot_once : config->boot_order;
    set_boot_order(pc->rtc, order ? order : "cad",
                   config->no_floppy_check ? BOOT_NO_FLOPPY_CHECK : 0);
}

void firmware_wake(const struct pc *pc)
{
    rtc_set_cmos(pc->rtc, CMOS_SHUTDOWN, SHUTDOWN_S3);
}

/* -- A kernel that firmware starts --------------------------------------------------------- */

#define KERNEL_ROM "genroms/linuxboot.bin"

/* The fw_cfg keys of a kernel's parts. */
static const struct {
    enum fw_cfg_key addr, size, data;
} kernel_keys[] = {
    [LINUX_SETUP] = {FW_CFG_SETUP_ADDR, FW_CFG_SETUP_SIZE, FW_CFG_SETUP_DATA},
    [LINUX_KERNEL] = {FW_CFG_KERNEL_ADDR, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_DATA},
    [LINUX_INITRD] = {FW_CFG_INITRD_ADDR, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_DATA},
    [LINUX_COMMAND] = {FW_CFG_CMDLINE_ADDR, FW_CFG_CMDLINE_SIZE, FW_CFG_CMDLINE_DATA},
};

bool firmware_add_kernel(struct firmware_files *files, const struct kernel *kernel,
                         struct error *err)
{
    struct fw_cfg *fw = files->pc->fw_cfg;
    const struct file *initrd = kernel->n_modules ? &kernel->modules[0] : NULL;
    struct linux_bios_keys keys;
    for (unsigned i = 0; i < ARRAY_LEN(kernel_keys); i++)
        keys.data[i] = (u16)kernel_keys[i].data;
    files->linux_bios = calloc(1, sizeof(*files->linux_bios));
    ensure(files->linux_bios);
    if (!kernel_read(&kernel->file, &files->kernel, err) ||
        (initrd && !kernel_read(initrd, &files->initrd, err)) ||
        !linux_bios_prepare(files->linux_bios, &files->kernel, initrd ? &files->initrd : NULL,
                            kernel->command_line, pmap_below_4g(files->board->pmap), &keys,
                            err))
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(kernel_keys); i++) {
        const struct linux_bios_part *part = &files->linux_bios->parts[i];
        fw_cfg_add_int(fw, kernel_keys[i].addr, part->addr, 4);
        fw_cfg_add_int(fw, kernel_keys[i].size, part->size, 4);
        fw_cfg_add(fw, kernel_keys[i].data, part->data, part->size);
    }
    add_file(fw, KERNEL_ROM, files->linux_bios->rom, sizeof(files->linux_bios->rom));
    return true;
}

/* What kernels that came without firmware ask for, too. */
static void add_numbers(struct firmware_files *files, struct pc *pc)
{
    const struct vm_config *config = files->config;
    fw_cfg_add(pc->fw_cfg, FW_CFG_UUID, config->smbios.uuid, sizeof(config->smbios.uuid));
    fw_cfg_add_int(pc->fw_cfg, FW_CFG_RAM_SIZE, config->memory, 8);
    fw_cfg_add_int(pc->fw_cfg, FW_CFG_NOGRAPHIC, config->screen_on_serial, 2);
    fw_cfg_add_int(pc->fw_cfg, FW_CFG_NB_CPUS, config->cpus, 2);
    fw_cfg_add_int(pc->fw_cfg, FW_CFG_MAX_CPUS, config->cpus, 2);
    fw_cfg_add_int(pc->fw_cfg, FW_CFG_BOOT_MENU, config->boot_menu, 2);
    fw_cfg_add_int(pc->fw_cfg, FW_CFG_IRQ0_OVERRIDE, 1, 4);
    add_memory_map(files, pc, files->board->pmap);
}

/* For each of S0 to S5 its SLP_TYP, with STATE_THERE: OVMF keeps what S3 needs only if told. */
#define STATE_THERE 0x80
static const u8 sleep_states[] = {
    [0] = STATE_THERE,
    [3] = STATE_THERE | ACPI_SLP_TYP_S3,
    [5] = STATE_THERE | ACPI_SLP_TYP_S5,
};

/* What firmware asks for to know the machine. */
static void add_machine(struct firmware_files *files, struct pc *pc, const struct plugs *plugs,
                        bool kernel)
{
    const struct vm_config *config = files->config;
    add_acpi(files, pc);
    add_file(pc->fw_cfg, "etc/system-states", sleep_states, sizeof(sleep_states));
    add_smbios(files, pc);
    size_t order = kernel ? (size_t)sprintf(files->boot_order, "/rom@" KERNEL_ROM "\n") : 0;
    order += plugs_boot_order(plugs, &config->plugs, files->boot_order + order,
                              sizeof(files->boot_order) - order - sizeof(BOOT_HALT));
    if (config->boot_strict)
        order += (size_t)sprintf(files->boot_order + order, BOOT_HALT);
    if (order) /* with its final NUL, as QEMU's */
        add_file(pc->fw_cfg, "bootorder", files->boot_order, order + 1);
    files->console = 0x3f8;
    if (config->screen_on_serial && config->n_serial)
        add_file(pc->fw_cfg, "etc/sercon-port", &files->console, sizeof(files->console));
    set_floppies(pc->rtc, plugs_floppy_types(plugs, &config->plugs));
    disk_geometry_tell(plugs->hard_disks, pc->rtc);
    rtc_set_cmos(pc->rtc, CMOS_MORE_CPUS, (u8)(config->cpus - 1));
}

struct firmware_files *firmware_files_create(struct pc *pc, struct board *board,
                                             const struct vm_config *config,
                                             const struct plugs *plugs, bool kernel,
                                             struct error *err)
{
    struct firmware_files *files = calloc(1, sizeof(*files));
    ensure(files);
    files->pc = pc;
    files->board = board;
    files->config = config;
    add_numbers(files, pc);
    if (config->firmware)
        add_machine(files, pc, plugs, kernel);
    if (add_wishes(files, pc, err))
        return files;
    firmware_files_destroy(files);
    return NULL;
}

void firmware_files_destroy(struct firmware_files *files)
{
    for (unsigned i = 0; files && i < VM_MAX_BLOBS; i++)
        if (files->blobs[i].data)
            file_release(files->blobs[i].data, files->blobs[i].size);
    if (files && files->kernel.data)
        file_release(files->kernel.data, files->kernel.size);
    if (files && files->initrd.data)
        file_release(files->initrd.data, files->initrd.size);
    if (files)
        free(files->linux_bios);
    free(files);
}
