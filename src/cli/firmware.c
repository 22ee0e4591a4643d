/* What firmware is told on the command line, see firmware.h. */
#include "cli/firmware.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/words.h"
#include "boot/boot.h"
#include "boot/linux_bios.h"
#include "device/fw_cfg.h"
#include "host/file.h"

/* -- -boot --------------------------------------------------------------------------------- */

static bool set_order(const char *key, const char *letters, char (*order)[4], struct error *err)
{
    size_t length = strlen(letters);
    if (length >= sizeof(*order) || strspn(letters, "abcdn") != length)
        return error_set(err, "-boot: %s '%.60s' is not up to 3 of a, b, c, d and n", key,
                         letters);
    strcpy(*order, letters);
    return true;
}

static bool set_wait(const char *option, const char *value, s64 low, s64 *ms, struct error *err)
{
    u64 number;
    if (low < 0 && !strcmp(value, "-1")) {
        *ms = -1;
        return true;
    }
    if (!words_number(option, value, 0, 65535, &number, err))
        return false;
    *ms = (s64)number;
    return true;
}

bool firmware_set_boot(struct run_options *o, const char *list, struct error *err)
{
    struct word word;
    struct vm_config *vm = &o->vm;
    while (words_next(&list, &word)) {
        const char *key = word.value ? word.key : "order";
        const char *value = word.value ? word.value : word.key;
        s64 ms = 0;
        bool done;
        if (!strcmp(key, "order")) {
            done = set_order(key, value, &o->boot_order, err);
            vm->boot_order = o->boot_order;
        } else if (!strcmp(key, "once")) {
            done = set_order(key, value, &o->boot_once, err);
            vm->boot_once = o->boot_once;
        } else if (!strcmp(key, "menu")) {
            done = words_switch("-boot menu", value, &vm->boot_menu, err);
        } else if (!strcmp(key, "strict")) {
            done = words_switch("-boot strict", value, &vm->boot_strict, err);
        } else if (!strcmp(key, "splash-time")) {
            done = set_wait("-boot splash-time", value, 0, &ms, err);
            vm->boot_menu_wait = (u16)ms;
        } else if (!strcmp(key, "reboot-timeout")) {
            done = set_wait("-boot reboot-timeout", value, -1, &ms, err);
            vm->boot_fail_wait = (s32)ms;
        } else {
            done = error_set(err,
                             "-boot: '%s' is not supported; there are order, once, menu, "
                             "splash-time, reboot-timeout and strict",
                             key);
        }
        if (!done)
            return false;
    }
    return true;
}

/* -- -kernel ------------------------------------------------------------------------------- */

#define KERNEL_START 8192 /* the header of every boot protocol lies in it */

static struct boot_image read_start(const char *kernel, u8 start[KERNEL_START])
{
    struct error ignored; /* who starts the machine opens it again, and says why not */
    struct file file;
    if (!file_open(&file, "-kernel", kernel, &ignored))
        return (struct boot_image){.name = kernel, .data = start};
    ssize_t size = pread(file.fd, start, KERNEL_START, 0);
    file_close(&file);
    return (struct boot_image){.name = kernel, .data = start, .size = size < 0 ? 0 : (u64)size};
}

bool firmware_wanted(const char *kernel)
{
    u8 start[KERNEL_START];
    const struct boot_image image = read_start(kernel, start);
    return linux_bios_wanted(&image);
}

bool firmware_is_kernel(const char *file)
{
    u8 start[KERNEL_START];
    const struct boot_image image = read_start(file, start);
    return linux_bios_wanted(&image) || boot_probe(&image) != BOOT_UNKNOWN;
}

bool firmware_kernel_has_screen(const char *kernel)
{
    u8 start[KERNEL_START];
    const struct boot_image image = read_start(kernel, start);
    return boot_probe(&image) == BOOT_MULTIBOOT;
}

/* -- Texts --------------------------------------------------------------------------------- */

/* Keeps a text for the machine; NULL: *err says that there are too many. */
static const char *keep(struct run_options *o, const char *option, const char *text,
                        struct error *err)
{
    size_t size = strlen(text) + 1;
    char *kept = o->texts + o->texts_used;
    if (size > sizeof(o->texts) - o->texts_used) {
        error_set(err, "%s: the texts are too long, %zu bytes together at most", option,
                  sizeof(o->texts));
        return NULL;
    }
    o->texts_used += size;
    return memcpy(kept, text, size);
}

bool firmware_add_blob(struct run_options *o, const char *list, struct error *err)
{
    struct word word;
    struct fw_cfg_blob *blob = &o->vm.blobs[o->vm.n_blobs];
    if (o->vm.n_blobs == VM_MAX_BLOBS)
        return error_set(err, "-fw_cfg: more than %d", VM_MAX_BLOBS);
    *blob = (struct fw_cfg_blob){0};
    while (words_next(&list, &word)) {
        const char *value = word.value ? word.value : word.key;
        const char **at = !word.value || !strcmp(word.key, "name") ? &blob->name
                          : !strcmp(word.key, "string")            ? &blob->text
                          : !strcmp(word.key, "file")              ? &blob->path
                                                                   : NULL;
        if (!at)
            return error_set(err,
                             "-fw_cfg: '%s' is not supported; there are name, string and file",
                             word.key);
        *at = keep(o, "-fw_cfg", value, err);
        if (!*at)
            return false;
    }
    if (!blob->name || !*blob->name || strlen(blob->name) > FW_CFG_NAME_MAX)
        return error_set(err, "-fw_cfg: no name=NAME of 1 to %d letters, as in opt/org.me/x",
                         FW_CFG_NAME_MAX);
    if (!blob->text == !blob->path)
        return error_set(err, "-fw_cfg: give either string=TEXT or file=FILE");
    o->vm.n_blobs++;
    return true;
}

/* -- -smbios ------------------------------------------------------------------------------- */

bool firmware_set_uuid(struct run_options *o, const char *option, const char *text,
                       struct error *err)
{
    unsigned n = 0;
    for (const char *at = text; n < 16 && isxdigit((unsigned char)at[0]) &&
                                sscanf(at, "%2hhx", &o->control.uuid[n]) == 1;
         n++)
        at += 2 + (at[2] == '-');
    if (n != 16 || strlen(text) != 36)
        return error_set(err, "%s: '%.60s' is not 8-4-4-4-12 hexadecimal digits", option, text);
    return true;
}

static bool add_oem(struct run_options *o, const char *value, struct error *err)
{
    struct smbios_config *smbios = &o->vm.smbios;
    if (smbios->n_oem == SMBIOS_MAX_OEM)
        return error_set(err, "-smbios type=11: more than %d values", SMBIOS_MAX_OEM);
    const char *kept = keep(o, "-smbios", value, err);
    smbios->oem[smbios->n_oem] = kept;
    smbios->n_oem += kept && *kept;
    return kept;
}

static bool set_text(struct run_options *o, u64 type, const struct word *word,
                     struct error *err)
{
    for (unsigned i = 0; i < SMBIOS_TEXTS; i++) {
        if (smbios_keys[i].type != type || strcmp(smbios_keys[i].key, word->key))
            continue;
        o->vm.smbios.text[i] = keep(o, "-smbios", word->value, err);
        return o->vm.smbios.text[i];
    }
    return error_set(err,
                     "-smbios: type %llu has no '%s'; doppel run --help lists what there is",
                     (unsigned long long)type, word->key);
}

static bool has_type(u64 type)
{
    bool found = type == 2 || type == 11;
    for (unsigned i = 0; i < SMBIOS_TEXTS; i++)
        found |= smbios_keys[i].type == type;
    return found;
}

bool firmware_add_smbios(struct run_options *o, const char *list, struct error *err)
{
    struct word word = {0};
    u64 type;
    if (!words_next(&list, &word) || !word.value || strcmp(word.key, "type"))
        return error_set(err, "-smbios: begin with type=N, as in -smbios type=1,serial=X");
    if (!words_number("-smbios type", word.value, 0, 127, &type, err))
        return false;
    if (!has_type(type))
        return error_set(err, "-smbios: type %llu cannot be set; there are 0, 1, 2, 3 and 11",
                         (unsigned long long)type);
    o->vm.smbios.board |= type == 2;
    while (words_next(&list, &word)) {
        bool done;
        if (!word.value)
            done = error_set(err, "-smbios: '%s' has no value", word.key);
        else if (type == 1 && !strcmp(word.key, "uuid"))
            done = firmware_set_uuid(o, "-smbios uuid", word.value, err);
        else if (type == 11 && !strcmp(word.key, "value"))
            done = add_oem(o, word.value, err);
        else
            done = set_text(o, type, &word, err);
        if (!done)
            return false;
    }
    return true;
}
