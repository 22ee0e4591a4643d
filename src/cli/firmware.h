/* The options that tell firmware, and guests that look there, something: -boot, -fw_cfg,
 * -smbios. */
#pragma once

#include "cli/options.h"

bool firmware_set_boot(struct run_options *options, const char *value, struct error *err);
bool firmware_add_blob(struct run_options *options, const char *value, struct error *err);
/* -uuid, and -smbios type=1,uuid= */
bool firmware_set_uuid(struct run_options *options, const char *option, const char *text,
                       struct error *err);
bool firmware_add_smbios(struct run_options *options, const char *value, struct error *err);
/* Whether the -kernel can only start through firmware; false also where it cannot be read. */
bool firmware_wanted(const char *kernel);
/* Whether it is a kernel of any kind that -kernel takes. */
bool firmware_is_kernel(const char *file);
/* Whether it is of those that expect a display adapter where none is named: multiboot's. */
bool firmware_kernel_has_screen(const char *kernel);
