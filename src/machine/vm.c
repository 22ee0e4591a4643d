/* The life of a virtual machine, see vm.h. The vCPU threads are run.c's. */
#include "machine/vm.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "device/acpi_pm.h"
#include "engine/access.h"
#include "host/file.h"
#include "host/leaks.h"
#include "host/run_delay.h"
#include "host/tsc.h"
#include "machine/firmware.h"
#include "machine/run.h"
#include "machine/runstate.h"
#include "machine/vm_state.h"
#include "memory/pmap.h"
#include "memory/tlb.h"

/* -- Requests from devices ----------------------------------------------------------------- */

/* Under the board lock: notes it, stops the vCPUs, and leaves the rest to the main thread. The
 * first request that is not yet served wins. */
static void vm_request(void *opaque, enum board_request request, int exit_status)
{
    struct vm *vm = opaque;
    if (vm->request != BOARD_RUN)
        return;
    vm->request = request;
    vm->exit_status = exit_status;
    run_hold(vm);
    loop_wake(&vm->loop);
}

static void vm_code_written(void *opaque, struct gfn f)
{
    struct vm *vm = opaque;
    access_code_written(&vm->board, f);
}

/* -- Reset --------------------------------------------------------------------------------- */

/*
 * Memory types as firmware leaves them, since a kernel that is started without one relies on
 * them (Linux takes no PAT without enabled MTRRs): write-back, but for the VGA window and the
 * PCI hole (SDM vol. 3, 11.11).
 */
static void set_memory_types(struct x86_cpu *c)
{
    const u64 write_back = 6, uncached = 0, write_protect = 5, bytes = 0x0101010101010101;
    c->mtrr_def_type = BIT(11) | BIT(10) | write_back; /* enabled, fixed ranges too */
    c->mtrr_fixed[0] = c->mtrr_fixed[1] = write_back * bytes;
    c->mtrr_fixed[2] = uncached;
    for (unsigned i = 3; i < ARRAY_LEN(c->mtrr_fixed); i++)
        c->mtrr_fixed[i] = write_protect * bytes;
    u64 hole_mask = bits_low(c->model->phys_bits) & ~(4 * GiB - PMAP_HOLE - 1);
    c->mtrr_var[0] = PMAP_HOLE | uncached;
    c->mtrr_var[1] = hole_mask | BIT(11);
}

/* Power-on state of everything but RAM; the vCPUs are parked. */
static void reset_board(struct vm *vm)
{
    bool firmware = vm->config.firmware;
    vm->asleep = false;
    board_lock(&vm->board);
    devices_reset(&vm->board);
    pc_reset(&vm->pc, firmware);
    firmware_start(&vm->pc, &vm->config, !vm->starts++);
    board_unlock(&vm->board);
    for (unsigned i = 0; i < vm->board.n_vcpus; i++) {
        struct vcpu *vcpu = vm->board.vcpus[i];
        vcpu_clear(vcpu, ATTN_NMI | ATTN_INIT | ATTN_SIPI);
        atomic_store(&vcpu->nmis, 0);
        x86_reset(&vcpu->cpu);
        atomic_store(&vcpu->unhalted, false);
        if (!firmware)
            set_memory_types(&vcpu->cpu);
        vcpu->cpu.activity = i ? CPU_WAIT_SIPI : CPU_RUNNING;
        tlb_drop(&vcpu->cpu);
    }
}

/* And the kernel, if any, loaded. */
bool vm_reset(struct vm *vm, struct error *err)
{
    reset_board(vm);
    if (vm->config.firmware)
        return true;
    u64 rsdp = pc_write_tables(&vm->pc, &vm->board, &vm->config);
    vm->kernel.text_screen = vm->config.vga;
    return kernel_load(&vm->kernel, &vm->board, rsdp, &vm->board.vcpus[0]->cpu, err);
}

/* Out of S3: memory is as it was, the first processor starts in real mode where the FACS says
 * (ACPI 6.4, 16.3.2). With firmware it starts there, as after a reset; its variables are in its
 * shadow, and it leads to where the FACS says. */
void vm_wake(struct vm *vm)
{
    struct x86_cpu *c = &vm->board.vcpus[0]->cpu;
    struct pci_shadow shadow = pci_host_shadowed(vm->pc.pci);
    reset_board(vm);
    board_lock(&vm->board);
    acpi_pm_woken(vm->pc.acpi_pm);
    if (vm->config.firmware) {
        pci_host_shadow_again(vm->pc.pci, shadow);
        firmware_wake(&vm->pc);
    }
    board_unlock(&vm->board);
    if (vm->config.firmware)
        return;
    u32 vector = pc_waking_vector(&vm->board);
    c->seg[SEG_CS].sel = (u16)(vector >> 4);
    c->seg[SEG_CS].base = vector & 0xffff0;
    c->rip = c->insn_rip = vector & 15;
    x86_derive(c);
}

/* -- Life ---------------------------------------------------------------------------------- */

static void leave_key(void *opaque)
{
    vm_leave(opaque, "host-ui");
}

static void break_key(void *opaque)
{
    struct vm *vm = opaque;
    board_lock(&vm->board);
    if (vm->pc.serial[0])
        serial_break(vm->pc.serial[0]);
    board_unlock(&vm->board);
}

/* One name of -accel. The reasons of what cannot run here are added to `reasons`. */
static const struct engine *try_engine(const char *name, struct error *reasons)
{
    struct error why = {.text = "not in this build"};
    size_t used = strlen(reasons->text), room = sizeof(reasons->text) - used;
    const char *comma = used ? "; " : "";
    if (!strcmp(name, "auto")) {
        const struct engine *first = engine_first_working(&why);
        if (why.text[0])
            snprintf(reasons->text + used, room, "%s%.300s", comma, why.text);
        return first;
    }
    const struct engine *engine = engine_named(name);
    if (engine && engine->probe(&why))
        return engine;
    snprintf(reasons->text + used, room, "%s%.30s: %.100s", comma, name, why.text);
    return NULL;
}

/* The first of the configuration's engines that can run here. */
static bool choose_engine(struct vm *vm, struct error *err)
{
    if (!vm->config.n_engines)
        vm->engine = try_engine("auto", &vm->passed);
    for (unsigned i = 0; i < vm->config.n_engines && !vm->engine; i++)
        vm->engine = try_engine(vm->config.engines[i], &vm->passed);
    if (!vm->engine)
        return error_set(err, "-accel: no engine can run here (%.300s); sim always can",
                         vm->passed.text);
    return true;
}

static void make_vcpus(struct vm *vm)
{
    vm->board.vcpus = calloc(vm->config.cpus, sizeof(*vm->board.vcpus));
    ensure(vm->board.vcpus);
    for (unsigned i = 0; i < vm->config.cpus; i++) {
        struct vcpu *vcpu = vcpu_create(&vm->board, i);
        vcpu->engine = vm->engine;
        vcpu->engine_options = vm->config.engine_options;
        vcpu->cpu.model = &vm->model;
        vcpu->cpu.log = vm->config.log;
        vm->board.vcpus[i] = vcpu;
    }
    vm->board.n_vcpus = vm->config.cpus;
}

static u64 run_delay(void *opaque, unsigned cpu)
{
    const struct vm *vm = opaque;
    return run_delay_read(vm->threads[cpu].delay_fd);
}

/* -- The parts, in the order in which they depend on each other; vm_destroy takes what there
 * is. Each leaves in *failure what was the matter. */

static bool make_model(struct vm *vm, enum vm_failure *failure, struct error *err)
{
    const struct vm_config *config = &vm->config;
    *failure = VM_BAD_OPTION;
    vm->board.tsc_hz = host_tsc_hz();
    if (!choose_engine(vm, err) ||
        !x86_model_init(&vm->model, config->cpu_model, config->cpus, vm->board.tsc_hz, err))
        return false;
    vm->model.leaks_not = host_leaks_not();
    return true;
}

/* What the devices have outside: lines, disks, networks, the VGA's ROM. */
static bool open_back_ends(struct vm *vm, enum vm_failure *failure, struct error *err)
{
    const struct vm_config *config = &vm->config;
    const struct char_keys keys = {.leave = leave_key, .send_break = break_key, .opaque = vm};
    *failure = VM_BAD_IMAGE;
    return plugs_open_lines(&vm->plugs, &config->plugs, &vm->board, &vm->loop, &keys, err) &&
           plugs_open(&vm->plugs, &config->plugs, &vm->board, &vm->loop, err) &&
           (!config->vga_rom || firmware_read_rom(config->vga_rom, "-vga", &vm->pc.vga_rom,
                                                  &vm->pc.vga_rom_size, err));
}

/* Under the board lock: the PC and what is plugged into it. */
static bool make_devices(struct vm *vm, enum vm_failure *failure, struct error *err)
{
    const struct vm_config *config = &vm->config;
    struct pc *pc = &vm->pc;
    struct pc_lines lines = {0};
    for (unsigned i = 0; i < config->n_serial; i++)
        lines.serial[i] = plugs_line(&vm->plugs, config->serial[i]);
    if (config->parallel)
        lines.parallel = plugs_line(&vm->plugs, config->parallel_line);
    pc->run_delay = run_delay;
    pc->run_delay_opaque = vm;
    pc_create(pc, &vm->board, config, &lines, vm->model.phys_bits);
    rtc_watch(pc->rtc, runstate_clock_set, vm);
    *failure = VM_BAD_OPTION;
    if (!plugs_create(&vm->plugs, &config->plugs, &vm->board, pc->pci, &pc->gsi, pc->dma, err))
        return false;
    *failure = VM_BAD_IMAGE;
    pc->files = firmware_files_create(pc, &vm->board, config, &vm->plugs, config->kernel, err);
    if (!pc->files)
        return false;
    return !config->kernel || !config->firmware ||
           firmware_add_kernel(pc->files, &vm->kernel, err);
}

static bool make(struct vm *vm, enum vm_failure *failure, struct error *err)
{
    const struct vm_config *config = &vm->config;
    if (!make_model(vm, failure, err))
        return false;
    *failure = VM_BAD_IMAGE;
    if (config->kernel &&
        !kernel_open(&vm->kernel, config->kernel, config->initrd, config->command_line, err))
        return false;
    *failure = VM_HOST_FAILED;
    vm->board.pmap = pmap_create(config->memory, err);
    if (!vm->board.pmap)
        return false;
    host_clock_init(&vm->clock, &vm->board.clock, &vm->loop, config->wall_offset);
    if (!open_back_ends(vm, failure, err))
        return false;
    make_vcpus(vm);
    input_init(&vm->pc.input, &vm->board);
    board_lock(&vm->board);
    bool made = make_devices(vm, failure, err);
    board_unlock(&vm->board);
    if (!made)
        return false;
    *failure = VM_HOST_FAILED;
    if (!run_create(vm, err))
        return false;
    *failure = VM_BAD_IMAGE;
    bool has_image = config->firmware && !config->firmware_in_flash;
    return (!has_image || firmware_open(config->firmware, &vm->board, err)) &&
           vm_reset(vm, err);
}

struct vm *vm_create(const struct vm_config *config, enum vm_failure *failure,
                     struct error *err)
{
    struct vm *vm = calloc(1, sizeof(*vm));
    ensure(vm);
    vm->config = *config;
    vm->kernel.file.fd = -1;
    *failure = VM_HOST_FAILED;
    if (!loop_init(&vm->loop, err)) {
        free(vm);
        return NULL;
    }
    board_init(&vm->board, config->log);
    vm->board.request = vm_request;
    vm->board.code_written = vm_code_written;
    vm->board.opaque = vm;
    board_close(&vm->board); /* until vm_run */
    runstate_create(vm);
    if (!make(vm, failure, err)) {
        vm_destroy(vm);
        return NULL;
    }
    return vm;
}

void vm_destroy(struct vm *vm)
{
    run_destroy(vm);
    struct pmap *pmap = vm->board.pmap;
    struct vcpu **vcpus = vm->board.vcpus;
    unsigned n_vcpus = vm->board.n_vcpus;
    board_destroy_devices(&vm->board);
    firmware_files_destroy(vm->pc.files);
    if (vm->pc.vga_rom)
        file_release(vm->pc.vga_rom, vm->pc.vga_rom_size);
    plugs_close(&vm->plugs);
    board_destroy(&vm->board);
    for (unsigned i = 0; i < n_vcpus; i++)
        vcpu_destroy(vcpus[i]);
    free(vcpus);
    if (pmap)
        pmap_destroy(pmap);
    kernel_close(&vm->kernel);
    loop_destroy(&vm->loop);
    free(vm);
}

void vm_leave(struct vm *vm, const char *reason)
{
    vm->left = true;
    vm->asked = reason;
}

struct loop *vm_loop(struct vm *vm)
{
    return &vm->loop;
}

const char *vm_engines_passed(const struct vm *vm)
{
    return vm->passed.text;
}

const struct engine *vm_engine(const struct vm *vm)
{
    return vm->engine;
}

const struct x86_model *vm_model(const struct vm *vm)
{
    return &vm->model;
}

struct board *vm_board(struct vm *vm)
{
    return &vm->board;
}

struct input *vm_input(struct vm *vm)
{
    return &vm->pc.input;
}

const struct screen *vm_screen(const struct vm *vm)
{
    return &vm->pc.screen;
}

const struct vm_config *vm_config(const struct vm *vm)
{
    return &vm->config;
}

pid_t vm_thread_id(const struct vm *vm, unsigned cpu)
{
    return vm->threads[cpu].tid;
}

struct plugs *vm_plugs(struct vm *vm)
{
    return &vm->plugs;
}

struct pc *vm_pc(struct vm *vm)
{
    return &vm->pc;
}

void vm_print_counters(struct vm *vm, FILE *out)
{
    struct engine_counter counters[512];
    fprintf(out, "machine.memory_bytes %llu\n", (unsigned long long)vm->config.memory);
    fprintf(out, "machine.memory_touched_bytes %llu\n",
            (unsigned long long)pmap_allocated(vm->board.pmap));
    fprintf(out, "machine.virtual_ns %llu\n", (unsigned long long)clock_now(&vm->board.clock));
    for (unsigned i = 0; i < vm->board.n_vcpus; i++) {
        struct vcpu *vcpu = vm->board.vcpus[i];
        fprintf(out, "cpu%u.halts %llu\n", i, (unsigned long long)vm->threads[i].halts);
        fprintf(out, "cpu%u.exits %llu\n", i, (unsigned long long)vm->threads[i].exits);
        unsigned n = vcpu->engine->counters(vcpu, counters, ARRAY_LEN(counters));
        for (unsigned k = 0; k < n && k < ARRAY_LEN(counters); k++)
            fprintf(out, "cpu%u.%s.%s %llu\n", i, vcpu->engine->name, counters[k].name,
                    (unsigned long long)counters[k].value);
    }
}
