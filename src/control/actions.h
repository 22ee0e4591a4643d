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
/* Plugs a network cable in or out; `name` is the card's or its -netdev's. False: no such. */
bool action_set_link(struct control *control, const char *name, bool up);
/* Memory that the guest should be left with. *err empty on false: there is no balloon. */
bool action_set_balloon(struct control *control, s64 bytes, struct error *err);
/* Memory that the guest has; false: there is no balloon. */
bool action_get_balloon(struct control *control, u64 *bytes);

/* Disk `i` of the configuration in QEMU's words: its name, what it holds. */
void action_disk_name(const struct vm_config *config, unsigned i, char *name, size_t size);
/* The device that has it: its id, or a path in QEMU's manner; "": none has it. */
void action_disk_device(const struct vm_config *config, unsigned i, char *text, size_t size);
const char *action_disk_format(const struct disk_config *disk);

/*
 * Removable media. `name` is a disk's name or its device's. False: *err says why not, in QEMU's
 * words.
 */
bool action_open_tray(struct control *control, const char *name, bool force, struct error *err);
bool action_close_tray(struct control *control, const char *name, struct error *err);
bool action_remove_medium(struct control *control, const char *name, struct error *err);
/* Opens the tray, and takes out what is there. */
bool action_eject(struct control *control, const char *name, bool force, struct error *err);

/* How a medium is to be opened: "retain", "read-only", "read-write". */
struct action_medium {
    const char *path;
    const char *format; /* NULL: raw */
    const char *mode;   /* NULL: retain */
    bool force;
};
bool action_change_medium(struct control *control, const char *name,
                          const struct action_medium *medium, struct error *err);
