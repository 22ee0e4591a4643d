/*
 * What both monitors, QMP and text, can do to a machine in more than one step. Each returns
 * false with *err set when it cannot. Threads: the loop's, without the board lock.
 */
#pragma once

#include "base/error.h"
#include "control/control.h"
#include "platform/input.h"

/* Guest-physical memory, or what processor `cpu` sees at `addr`, into a file. */
bool action_save_physical(struct control *control, u64 addr, u64 size, const char *path,
                          struct error *err);
bool action_save_virtual(struct control *control, unsigned cpu, u64 addr, u64 size,
                         const char *path, struct error *err);
/* `format`: "ppm" or "png". */
bool action_screendump(struct control *control, const char *path, const char *format,
                       struct error *err);
/* hold_ms 0: QEMU's 100 ms. */
bool action_send_keys(struct control *control, const enum input_key *keys, unsigned n,
                      u64 hold_ms, struct error *err);
void action_nmi(struct control *control);
/* Memory that the guest should be left with. *err empty on false: there is no balloon. */
bool action_set_balloon(struct control *control, s64 bytes, struct error *err);
/* Memory that the guest has; false: there is no balloon. */
bool action_get_balloon(struct control *control, u64 *bytes);

/* Disk `i` of the configuration in QEMU's words: its name, what it holds. */
void action_disk_name(const struct vm_config *config, unsigned i, char *name, size_t size);
const char *action_disk_format(const struct disk_config *disk);
