/*
 * What the machine as a whole is doing (running, paused, ended) and what its watchers are told.
 * All of it in the main thread, from vm_run or the loop's callbacks.
 */
#include "machine/runstate.h"

#include "device/acpi_pm.h"
#include "machine/run.h"
#include "machine/vm_state.h"

static const char *const state_names[] = {
    [VM_STATE_PRELAUNCH] = "prelaunch", [VM_STATE_RUNNING] = "running",
    [VM_STATE_PAUSED] = "paused",       [VM_STATE_SHUTDOWN] = "shutdown",
    [VM_STATE_IO_ERROR] = "io-error",
};

const char *vm_state_name(enum vm_state state)
{
    return state_names[state];
}

enum vm_state vm_state(const struct vm *vm)
{
    return vm->state;
}

/* -- Watchers ------------------------------------------------------------------------------ */

void vm_watch(struct vm *vm, struct vm_watcher *watcher)
{
    watcher->next = vm->watchers;
    vm->watchers = watcher;
}

void vm_unwatch(struct vm *vm, struct vm_watcher *watcher)
{
    struct vm_watcher **at = &vm->watchers;
    while (*at && *at != watcher)
        at = &(*at)->next;
    if (*at)
        *at = watcher->next;
}

static void tell(struct vm *vm, const struct vm_event *event)
{
    for (struct vm_watcher *watcher = vm->watchers; watcher; watcher = watcher->next)
        watcher->event(watcher->opaque, event);
}

static void tell_end(struct vm *vm, enum vm_event_kind kind, const char *guest_reason)
{
    const struct vm_event event = {
        .kind = kind, .guest = !vm->asked, .reason = vm->asked ? vm->asked : guest_reason};
    vm->asked = NULL;
    tell(vm, &event);
}

/* -- Standing still and going on ----------------------------------------------------------- */

/* The order matters: vCPUs make disk requests, disk requests make interrupts and memory
 * writes. */
static void freeze(struct vm *vm)
{
    run_stop(vm);
    board_lock(&vm->board);
    host_clock_stop(&vm->clock);
    board_close(&vm->board);
    plugs_drain(&vm->plugs);
    board_unlock(&vm->board);
}

/* Unless a device asked for something: then the vCPUs wait for that. */
static void go(struct vm *vm)
{
    board_lock(&vm->board);
    bool asked = vm->request != BOARD_RUN;
    board_unlock(&vm->board);
    if (!asked && !vm->asleep)
        run_resume(vm);
}

static void thaw(struct vm *vm)
{
    board_lock(&vm->board);
    host_clock_start(&vm->clock);
    pvclock_refresh(vm->pc.pvclock);
    board_open(&vm->board);
    board_unlock(&vm->board);
    go(vm);
}

static void stand_still(struct vm *vm, enum vm_state state)
{
    bool ran = vm->state == VM_STATE_RUNNING;
    vm->state = state;
    if (!ran)
        return;
    freeze(vm);
    tell(vm, &(const struct vm_event){.kind = VM_EVENT_STOP});
}

void vm_pause(struct vm *vm)
{
    if (vm->state == VM_STATE_RUNNING)
        stand_still(vm, VM_STATE_PAUSED);
}

bool vm_continue(struct vm *vm)
{
    if (vm->state == VM_STATE_RUNNING)
        return true;
    if (vm->state == VM_STATE_SHUTDOWN)
        return false;
    vm->state = VM_STATE_RUNNING;
    tell(vm, &(const struct vm_event){.kind = VM_EVENT_RESUME});
    thaw(vm);
    return true;
}

void vm_hold(struct vm *vm)
{
    if (!vm->holds++)
        run_stop(vm);
}

void vm_release(struct vm *vm)
{
    if (!--vm->holds && vm->state == VM_STATE_RUNNING)
        go(vm);
}

bool vm_set_engine(struct vm *vm, unsigned cpu, const struct engine *engine, struct error *err)
{
    vm_hold(vm);
    bool exchanged = run_exchange(vm, cpu, engine, err);
    vm_release(vm);
    return exchanged;
}

/* -- Disks that fail, trays that move ------------------------------------------------------ */

static void disk_changed(void *opaque)
{
    struct vm *vm = opaque;
    loop_schedule(&vm->loop, &vm->disk_work);
}

static void tell_disk(struct vm *vm, unsigned disk)
{
    struct disk_failure *failure = &vm->plugs.disk_failures[disk];
    board_lock(&vm->board);
    bool pending = failure->pending;
    struct block_failure what = failure->what;
    failure->pending = false;
    board_unlock(&vm->board);
    if (!pending)
        return;
    tell(vm, &(const struct vm_event){
                 .kind = VM_EVENT_DISK_FAILED, .disk = disk, .failure = &what});
    if (what.action == BLOCK_STOP && vm->state == VM_STATE_RUNNING)
        stand_still(vm, VM_STATE_IO_ERROR);
}

static void tell_tray(struct vm *vm, unsigned disk)
{
    struct disk_tray *tray = &vm->plugs.trays[disk];
    board_lock(&vm->board);
    bool pending = tray->pending;
    const struct vm_event event = {
        .kind = VM_EVENT_TRAY_MOVED, .disk = disk, .tray_open = tray->open};
    tray->pending = false;
    board_unlock(&vm->board);
    if (pending)
        tell(vm, &event);
}

void runstate_tell_disks(struct vm *vm)
{
    for (unsigned i = 0; i < PLUGS_MAX_DISKS; i++) {
        tell_disk(vm, i);
        tell_tray(vm, i);
    }
}

static void tell_disks(void *opaque)
{
    runstate_tell_disks(opaque);
}

/* -- The clock ----------------------------------------------------------------------------- */

static void tell_clock(void *opaque)
{
    struct vm *vm = opaque;
    board_lock(&vm->board);
    const struct vm_event event = {.kind = VM_EVENT_CLOCK_SET,
                                   .clock_offset = vm->clock_offset};
    board_unlock(&vm->board);
    /* One setting is several writes. */
    if (event.clock_offset == vm->clock_told)
        return;
    vm->clock_told = event.clock_offset;
    tell(vm, &event);
}

void runstate_clock_set(void *opaque, s64 offset)
{
    struct vm *vm = opaque;
    vm->clock_offset = offset;
    loop_schedule(&vm->loop, &vm->clock_work);
}

void runstate_create(struct vm *vm)
{
    vm->clock_work = (struct loop_work){.run = tell_clock, .opaque = vm};
    loop_add_work(&vm->loop, &vm->clock_work);
    vm->disk_work = (struct loop_work){.run = tell_disks, .opaque = vm};
    loop_add_work(&vm->loop, &vm->disk_work);
    vm->plugs.disk_changed = disk_changed;
    vm->plugs.opaque = vm;
}

/* -- Requests from outside ----------------------------------------------------------------- */

static void ask(struct vm *vm, enum board_request request, const char *reason)
{
    board_lock(&vm->board);
    bool taken = vm->request == BOARD_RUN;
    board_ask(&vm->board, request, 0);
    board_unlock(&vm->board);
    if (taken)
        vm->asked = reason;
}

void vm_ask_reset(struct vm *vm, const char *reason)
{
    ask(vm, BOARD_RESET, reason);
}

void vm_power_button(struct vm *vm)
{
    tell(vm, &(const struct vm_event){.kind = VM_EVENT_POWERDOWN});
    board_lock(&vm->board);
    acpi_pm_power_button(vm->pc.acpi_pm);
    board_unlock(&vm->board);
}

/* -- Running ------------------------------------------------------------------------------- */

/* The machine is to end; VM_RUNNING: it only stops. */
static enum vm_end end(struct vm *vm, enum vm_end how, const char *guest_reason)
{
    tell_end(vm, VM_EVENT_SHUTDOWN, guest_reason);
    if (!vm->config.no_shutdown)
        return how;
    stand_still(vm, VM_STATE_SHUTDOWN);
    return VM_RUNNING;
}

static enum vm_end reset(struct vm *vm, enum vm_end how, struct vm_result *result)
{
    if (vm->config.no_reboot)
        return end(vm, how, "guest-reset");
    if (!vm_reset(vm, &result->error))
        return VM_FAILED;
    if (vm->state != VM_STATE_RUNNING)
        vm->state = VM_STATE_PRELAUNCH;
    tell_end(vm, VM_EVENT_RESET, "guest-reset");
    return VM_RUNNING;
}

/* What a request does to the machine. Parked vCPUs; VM_RUNNING: go on, if in that state. */
static enum vm_end serve(struct vm *vm, enum board_request request, struct vm_result *result)
{
    switch (request) {
    case BOARD_POWER_OFF:
        return end(vm, VM_POWER_OFF, "guest-shutdown");
    case BOARD_EXIT:
        result->status = vm->exit_status;
        return VM_DEBUG_EXIT;
    case BOARD_SHUTDOWN:
        return reset(vm, VM_TRIPLE_FAULT, result);
    case BOARD_RESET:
        return reset(vm, VM_RESET, result);
    case BOARD_SLEEP:
        vm->asleep = true;
        board_lock(&vm->board);
        acpi_pm_slept(vm->pc.acpi_pm);
        board_unlock(&vm->board);
        break;
    case BOARD_WAKE:
        vm_wake(vm);
        break;
    case BOARD_RUN:
        break;
    }
    return VM_RUNNING;
}

/* The devices' request, if there is one; the vCPUs are parked then. */
static enum board_request take_request(struct vm *vm)
{
    board_lock(&vm->board);
    enum board_request request = vm->request;
    board_unlock(&vm->board);
    if (request == BOARD_RUN)
        return request;
    run_stop(vm);
    board_lock(&vm->board);
    vm->request = BOARD_RUN;
    board_unlock(&vm->board);
    return request;
}

struct vm_result vm_run(struct vm *vm)
{
    struct vm_result result = {.end = VM_RUNNING};
    if (!vm->config.paused)
        vm_continue(vm);
    while (result.end == VM_RUNNING && !vm->left) {
        enum board_request request = take_request(vm);
        if (request == BOARD_RUN) {
            host_clock_run(&vm->clock, &vm->board);
            loop_wait(&vm->loop, UINT64_MAX);
            continue;
        }
        result.end = serve(vm, request, &result);
        if (result.end == VM_RUNNING && vm->state == VM_STATE_RUNNING && !vm->asleep)
            run_resume(vm);
    }
    if (result.end == VM_RUNNING) {
        tell_end(vm, VM_EVENT_SHUTDOWN, "host-error");
        result.end = VM_LEFT;
    }
    freeze(vm);
    return result;
}
