/* The options that give the machine disks, CDs and floppies. */
#pragma once

#include "cli/options.h"
#include "cli/words.h"

/* -drive */
bool drives_add(struct run_options *options, const char *value, struct error *err);
/* -pflash, -hda .. -hdd, -cdrom, -fda, -fdb: raw images */
bool drives_add_flash(struct run_options *options, const char *path, struct error *err);
bool drives_add_hda(struct run_options *options, const char *path, struct error *err);
bool drives_add_hdb(struct run_options *options, const char *path, struct error *err);
bool drives_add_hdc(struct run_options *options, const char *path, struct error *err);
bool drives_add_hdd(struct run_options *options, const char *path, struct error *err);
bool drives_add_cdrom(struct run_options *options, const char *path, struct error *err);
bool drives_add_fda(struct run_options *options, const char *path, struct error *err);
bool drives_add_fdb(struct run_options *options, const char *path, struct error *err);

/* Properties of -device, and what it cannot do without. */
bool drives_blk_property(struct run_options *options, struct plug_config *plug,
                         const struct word *word, struct error *err);
bool drives_ide_property(struct run_options *options, struct plug_config *plug,
                         const struct word *word, struct error *err);
bool drives_floppy_property(struct run_options *options, struct plug_config *plug,
                            const struct word *word, struct error *err);
bool drives_check(struct run_options *options, struct plug_config *plug, struct error *err);

/* Whether it is a device that carries a disk. */
bool drives_are(enum plug_kind kind);
/* What follows from all options together. */
bool drives_finish(struct run_options *options, struct error *err);
