/*
 * A virtual machine: made from a configuration, run, destroyed. Several may live in one
 * process, each run by its own thread.
 *
 * Threads: vm_create, vm_run, vm_destroy and what the loop calls belong to one thread, the VM's
 * main thread: it fires timers and serves back ends. Each vCPU has a thread of its own.
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "engine/engine.h"
#include "host/char/char.h"
#include "host/loop.h"
#include "machine/plugs.h"
#include "machine/smbios.h"
#include "platform/input.h"
#include "platform/screen.h"

#define VM_MAX_CPUS    64
#define VM_MAX_ENGINES 8
#define VM_MAX_SERIAL  2
#define VM_MAX_BLOBS   16
#define VM_MIN_MEMORY  (2 * MiB)

/* A -fw_cfg: a file that the guest finds under a name. */
struct fw_cfg_blob {
    const char *name;
    const char *text; /* NULL: what is in `path` */
    const char *path;
};

/* What the user asked for. Strings must live as long as the VM. */
struct vm_config {
    const char *firmware;   /* an image for the reset vector; NULL: a kernel is started */
    bool firmware_in_flash; /* it is in a PLUG_FLASH; `firmware` only names it */
    const char *boot_order; /* of firmware: letters a, b, c, d, n; NULL: "cad" */
    const char *boot_once;  /* the same for the first start only; NULL: as always */
    bool boot_menu;         /* firmware asks on the console */
    u16 boot_menu_wait;     /* for so many ms; 0: as firmware likes */
    bool boot_strict;       /* nothing is tried that has no place in the order */
    bool no_floppy_check;   /* floppies boot without their signature */
    s32 boot_fail_wait;     /* ms after which firmware starts again; -1: never; 0: its own */
    struct fw_cfg_blob blobs[VM_MAX_BLOBS];
    unsigned n_blobs;
    struct smbios_config smbios; /* what the user said; the rest is filled in */
    bool vga;                    /* a display adapter */
    const char *vga_rom;         /* its BIOS, for firmware; NULL: none */
    bool screen_on_serial;       /* firmware prints on the first serial line, too */
    const char *kernel;          /* with firmware: a Linux image that it starts; or NULL */
    const char *initrd;          /* NULL: none */
    const char *command_line;    /* never NULL */
    u64 memory;                  /* bytes, a multiple of 4096 */
    unsigned cpus;
    const char *cpu_model; /* NULL: the default */
    const char *engines[VM_MAX_ENGINES];
    unsigned n_engines;             /* 0: automatic */
    u32 engine_options;             /* ENGINE_* */
    unsigned serial[VM_MAX_SERIAL]; /* which of plugs.lines */
    unsigned n_serial;
    bool no_pit;            /* no 8254: timers of the local APICs only */
    bool parallel;          /* there is LPT1 */
    unsigned parallel_line; /* which of plugs.lines */
    bool no_reboot;         /* where the guest would be reset it ends instead */
    bool no_shutdown;       /* where it would end it stops */
    bool paused;            /* at its first instruction */
    struct plugs_config plugs;
    bool debug_exit; /* the isa-debug-exit device, below */
    u16 debug_exit_base, debug_exit_size;
    s64 wall_offset; /* seconds: what the RTC shows beyond UTC */
    struct log *log;
};

enum vm_end {
    VM_RUNNING,
    VM_POWER_OFF,    /* the guest switched itself off */
    VM_RESET,        /* the guest wanted a reset, and the configuration says no_reboot */
    VM_TRIPLE_FAULT, /* likewise, by a triple fault */
    VM_DEBUG_EXIT,   /* status: what the guest gave */
    VM_LEFT,         /* vm_leave: the user or a signal */
    VM_FAILED,       /* the machine could not be started again after a reset */
};

struct vm_result {
    enum vm_end end;
    int status;         /* of VM_DEBUG_EXIT */
    struct error error; /* of VM_FAILED */
};

/* Whose fault it is that there is no machine: the process's exit status. */
enum vm_failure {
    VM_HOST_FAILED = 1,
    VM_BAD_OPTION = 2,
    VM_BAD_IMAGE = 3,
};

struct vm;

/* NULL: *err says why, *failure of which kind it is. The machine is loaded and stands at its
 * first instruction. */
struct vm *vm_create(const struct vm_config *config, enum vm_failure *failure,
                     struct error *err);
void vm_destroy(struct vm *vm);

/* Runs until the machine ends. */
struct vm_result vm_run(struct vm *vm);

/* Ends vm_run; from the loop's callbacks. `reason` is QEMU's word for watchers. */
void vm_leave(struct vm *vm, const char *reason);

/* -- Steering, from the loop's callbacks --------------------------------------------------- */

/* QEMU's run states, as far as they come up. */
enum vm_state {
    VM_STATE_PRELAUNCH, /* never ran, or was reset while it did not */
    VM_STATE_RUNNING,
    VM_STATE_PAUSED,
    VM_STATE_SHUTDOWN, /* ended, and no_shutdown: only a reset helps */
    VM_STATE_IO_ERROR, /* a disk failed, and its configuration says stop */
};
const char *vm_state_name(enum vm_state state);
enum vm_state vm_state(const struct vm *vm);

/*
 * Stops the machine: when this returns, no vCPU runs, virtual time stands, no disk request is
 * under way, and nothing that comes from outside reaches a device: guest memory and all device
 * state stay as they are until vm_continue.
 */
void vm_pause(struct vm *vm);
/* False: it can only be reset. */
bool vm_continue(struct vm *vm);
void vm_ask_reset(struct vm *vm, const char *reason);
void vm_power_button(struct vm *vm);

/* -- Exchanging media, of disk `disk` of the configuration --------------------------------- */

struct vm_medium {
    bool removable;    /* else what follows means nothing */
    bool open, locked; /* the tray */
};
struct vm_medium vm_medium(struct vm *vm, unsigned disk);
/* False: the guest has locked it, and is now told of the wish. */
bool vm_open_tray(struct vm *vm, unsigned disk, bool force);
void vm_close_tray(struct vm *vm, unsigned disk);
/* What is in the open drive goes; the configuration's path becomes "". */
void vm_remove_medium(struct vm *vm, unsigned disk);

struct vm_new_medium {
    const char *path;
    enum image_format format;
    bool read_only;
};
/* Opens the drive, locked or not, puts an image into it, enters it in the configuration and
 * closes the drive. False: *err says why not, and all is as it was. */
bool vm_change_medium(struct vm *vm, unsigned disk, const struct vm_new_medium *medium,
                      struct error *err);

/* What happens to the machine as a whole, as told to watchers. */
enum vm_event_kind {
    VM_EVENT_STOP,
    VM_EVENT_RESUME,
    VM_EVENT_RESET,
    VM_EVENT_SHUTDOWN,
    VM_EVENT_POWERDOWN,
    VM_EVENT_DISK_FAILED,
    VM_EVENT_TRAY_MOVED,
    VM_EVENT_CLOCK_SET,
};

struct vm_event {
    enum vm_event_kind kind;
    bool guest;         /* of a reset or shutdown: the guest wanted it */
    const char *reason; /* of those: QEMU's word */
    unsigned disk;      /* of a disk: which one */
    bool tray_open;     /* of a tray that moved */
    s64 clock_offset;   /* of a clock that the guest set: seconds beyond the host's */
    const struct block_failure *failure;
};

struct vm_watcher {
    void (*event)(void *opaque, const struct vm_event *event); /* in the loop's thread */
    void *opaque;
    struct vm_watcher *next;
};
/* The owner keeps the memory until vm_destroy or vm_unwatch. */
void vm_watch(struct vm *vm, struct vm_watcher *watcher);
void vm_unwatch(struct vm *vm, struct vm_watcher *watcher);

/* For a look at the vCPUs' state: they are parked between the two, whatever the machine's
 * state, without anybody noticing. Nests. */
void vm_hold(struct vm *vm);
void vm_release(struct vm *vm);

/* Puts another engine on a vCPU, which must be able to run here; the guest does not notice.
 * False: *err says why not, and it goes on with the old one. */
bool vm_set_engine(struct vm *vm, unsigned cpu, const struct engine *engine, struct error *err);

const struct vm_config *vm_config(const struct vm *vm);
struct plugs *vm_plugs(struct vm *vm);
/* Of the host's thread that runs a vCPU. */
pid_t vm_thread_id(const struct vm *vm, unsigned cpu);
struct pc *vm_pc(struct vm *vm);

/* The loop that vm_run runs, for more sources. */
struct loop *vm_loop(struct vm *vm);
const struct engine *vm_engine(const struct vm *vm);
const struct x86_model *vm_model(const struct vm *vm);
/* Why the engines that were to be tried before it cannot run here; "": there are none. */
const char *vm_engines_passed(const struct vm *vm);
/* Its keyboard and mouse, and its screen; to be used under the board lock. */
struct board *vm_board(struct vm *vm);
struct input *vm_input(struct vm *vm);
const struct screen *vm_screen(const struct vm *vm);

/* "name value" lines: the engine's counters for each vCPU, and the machine's own. After
 * vm_run. */
void vm_print_counters(struct vm *vm, FILE *out);
