/* `doppel run`: starts a machine and stays with it until it ends. */
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/background.h"
#include "cli/options.h"
#include "cli/plugs.h"
#include "host/curses.h"
#include "host/tty.h"
#include "x86/model.h"

#ifndef DOPPEL_VERSION
#define DOPPEL_VERSION "unknown"
#endif
#ifndef DOPPEL_DATADIR
#define DOPPEL_DATADIR "/usr/local/share/doppel"
#endif

/* The default guest's own words: kernel messages would bury the prompt. */
#define DEFAULT_COMMAND_LINE "console=%s quiet"

/* What one run holds besides the machine. */
struct session {
    struct run_options options;
    struct vm *vm;
    struct control *control;
    struct tty *tty;
    char kernel[4096], initrd[4096], command_line[4096]; /* of the default guest */
    struct curses *curses; /* the screen on the terminal, or NULL */
    int signal_fd;
    struct loop_source signal_source;
    int signal; /* the one that ended us, or 0 */
};

static int fail(int status, const struct error *err)
{
    fprintf(stderr, "doppel: %s\n", err->text);
    return status;
}

/* -- The default guest --------------------------------------------------------------------- */

static bool use_default_guest(struct session *session, struct error *err)
{
    struct vm_config *vm = &session->options.vm;
    const char *dir = getenv("DOPPEL_GUEST");
    if (!dir)
        dir = DOPPEL_DATADIR "/guest/cloud";
    int kernel = snprintf(session->kernel, sizeof(session->kernel), "%s/vmlinuz", dir);
    int initrd = snprintf(session->initrd, sizeof(session->initrd), "%s/initrd", dir);
    int words = snprintf(session->command_line, sizeof(session->command_line),
                         DEFAULT_COMMAND_LINE " %s", session->options.curses ? "tty0" : "ttyS0",
                         vm->command_line ? vm->command_line : "");
    if (kernel >= (int)sizeof(session->kernel) || initrd >= (int)sizeof(session->initrd) ||
        words >= (int)sizeof(session->command_line))
        return error_set(err, "the default guest's path or -append is too long");
    if (access(session->kernel, R_OK) || access(session->initrd, R_OK))
        return error_set(
            err,
            "no -kernel given, and the default guest is not in '%s'; `make run` in "
            "the source tree makes and starts it",
            dir);
    vm->kernel = session->kernel;
    vm->initrd = session->initrd;
    vm->command_line = session->command_line;
    return true;
}

/* -- Signals ------------------------------------------------------------------------------- */

/* All that would end or stop us: taken in the loop, so that the terminal is put back first. */
static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static void take_signal(struct session *session, int signal)
{
    if (signal == SIGTSTP) {
        tty_restore(session->tty);
        raise(SIGSTOP);
        tty_resume(session->tty);
    } else if (signal == SIGCONT) {
        tty_resume(session->tty);
    } else {
        session->signal = signal;
        vm_leave(session->vm, "host-signal");
    }
}

static void signal_ready(void *opaque, short revents)
{
    struct session *session = opaque;
    struct signalfd_siginfo info;
    if (read(session->signal_fd, &info, sizeof(info)) == sizeof(info))
        take_signal(session, (int)info.ssi_signo);
}

/* Before any thread is made: they inherit the mask. */
static bool block_signals(struct session *session, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(ending_signals); i++)
        sigaddset(&set, ending_signals[i]);
    sigaddset(&set, SIGTSTP);
    sigaddset(&set, SIGCONT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    session->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (session->signal_fd < 0)
        return error_errno(err, "cannot make a signal descriptor");
    session->signal_source = (struct loop_source){
        .fd = session->signal_fd, .events = POLLIN, .ready = signal_ready, .opaque = session};
    return true;
}

/* -- The run ------------------------------------------------------------------------------- */

static void take_terminal(struct session *session)
{
    const struct plugs_config *plugs = &session->options.vm.plugs;
    for (unsigned i = 0; i < plugs->n_lines; i++) {
        const struct char_config *back = &plugs->lines[i].back;
        if (back->kind == CHAR_STDIO)
            tty_raw(session->tty, STDIN_FILENO, !back->keys);
    }
}

static int report(const struct session *session, const struct vm_result *result)
{
    bool verbose = session->options.verbose;
    switch (result->end) {
    case VM_POWER_OFF:
        if (verbose)
            fputs("doppel: the guest powered off\n", stderr);
        return EXIT_OK;
    case VM_RESET:
        if (verbose)
            fputs("doppel: the guest reset\n", stderr);
        return EXIT_OK;
    case VM_DEBUG_EXIT:
        return result->status;
    case VM_TRIPLE_FAULT:
        fputs("doppel: the guest stopped in a triple fault; -d int shows the exceptions before "
              "it\n",
              stderr);
        return EXIT_TRIPLE_FAULT;
    case VM_FAILED:
        return fail(EXIT_IMAGE, &result->error);
    case VM_LEFT:
    case VM_RUNNING:
        break;
    }
    return session->signal ? EXIT_SIGNAL + session->signal : EXIT_OK;
}

static void leave(void *opaque)
{
    vm_leave(opaque, "host-ui");
}

static bool open_screen(struct session *session, struct error *err)
{
    struct vm *vm = session->vm;
    const struct char_keys keys = {.leave = leave, .opaque = vm};
    if (!session->options.curses)
        return true;
    /* For the case that the process dies: curses itself puts the terminal back otherwise. */
    tty_raw(session->tty, STDIN_FILENO, false);
    session->curses =
        curses_create(vm_board(vm), vm_loop(vm), vm_screen(vm), vm_input(vm), &keys, err);
    return session->curses;
}

/* The machine is made and about to run; the exit status if it cannot. */
static int settle(struct session *session, int background, struct error *err)
{
    const struct run_options *options = &session->options;
    if (options->pid_file && !background_write_pid(options->pid_file, err))
        return EXIT_IMAGE;
    if (!open_screen(session, err))
        return EXIT_HOST;
    if (background >= 0)
        background_ready(background);
    return EXIT_OK;
}

/* What was asked for and comes to nothing. */
static void warn(const struct session *session)
{
    const struct plugs_config *plugs = &session->options.vm.plugs;
    const char *left_out = vm_model(session->vm)->left_out;
    if (left_out[0])
        fprintf(stderr, "doppel: warning: -cpu goes without what cannot be had here: %s\n",
                left_out);
    for (unsigned i = 0; i < plugs->n_nets; i++)
        if (!plugs->nets[i].used)
            fprintf(stderr,
                    "doppel: warning: -netdev %s: no device uses it; "
                    "-device virtio-net-pci,netdev=%s would\n",
                    plugs->nets[i].net.id, plugs->nets[i].net.id);
}

static int run_machine(struct session *session)
{
    struct error err = {{0}};
    enum vm_failure failure = VM_HOST_FAILED;
    int background = -1;
    if (session->options.daemonize && (background = background_start(&err)) < 0)
        return fail(EXIT_HOST, &err);
    if (!block_signals(session, &err))
        return fail(EXIT_HOST, &err);
    session->vm = vm_create(&session->options.vm, &failure, &err);
    if (!session->vm)
        return fail((int)failure, &err);
    if (session->options.verbose) {
        const char *passed = vm_engines_passed(session->vm);
        fprintf(stderr, "doppel: engine %s%s%s%s\n", vm_engine(session->vm)->name,
                passed[0] ? " (" : "", passed, passed[0] ? ")" : "");
    }
    warn(session);
    loop_add(vm_loop(session->vm), &session->signal_source);
    session->control = control_create(session->vm, &session->options.control);
    int status = settle(session, background, &err);
    if (status) {
        tty_restore(session->tty);
        control_destroy(session->control);
        vm_destroy(session->vm);
        return fail(status, &err);
    }
    take_terminal(session);
    struct vm_result result = vm_run(session->vm);
    curses_destroy(session->curses);
    tty_restore(session->tty);
    loop_remove(vm_loop(session->vm), &session->signal_source);
    if (session->options.stats)
        vm_print_counters(session->vm, stderr);
    control_destroy(session->control);
    vm_destroy(session->vm);
    if (session->options.pid_file)
        unlink(session->options.pid_file);
    close(session->signal_fd);
    return report(session, &result);
}

static bool open_log(struct run_options *options, struct error *err)
{
    if (options->log_file) {
        options->log.fd =
            open(options->log_file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
        if (options->log.fd < 0)
            return error_errno(err, "-D: cannot write '%s'", options->log_file);
    }
    options->vm.log = &options->log;
    return true;
}

static void list_log_categories(void)
{
    for (unsigned i = 0; i < LOG_CATEGORIES; i++)
        printf("%-14s %s\n", log_names[i].name, log_names[i].help);
    puts("all            all of these");
}

static void list_engines(void)
{
    for (unsigned i = 0; i < n_engines; i++) {
        struct error why = {{0}};
        if (engines[i]->probe(&why))
            printf("%-14s works here\n", engines[i]->name);
        else
            printf("%-14s does not work here: %s\n", engines[i]->name, why.text);
    }
}

static void print_name(const char *name)
{
    puts(name);
}

/* Whether it was asked for, and printed. */
static bool print_help(const struct run_options *options)
{
    if (options->help)
        options_help(stdout);
    else if (options->log_help)
        list_log_categories();
    else if (options->accel_help)
        list_engines();
    else if (options->device_help)
        plugs_list_devices(stdout);
    else if (options->cpu_help)
        x86_model_list(print_name);
    else if (options->machine_help)
        puts("pc             the one machine (i440FX, PIIX3); q35 is another name for it");
    return options->help || options->log_help || options->accel_help || options->device_help ||
           options->cpu_help || options->machine_help;
}

int verb_run(char **argv, struct tty *tty)
{
    struct error err = {{0}};
    struct session session = {.tty = tty};
    struct run_options *options = &session.options;
    options_init(options);
    options->control.version = DOPPEL_VERSION;
    if (!options_parse(options, argv, &err))
        return fail(EXIT_OPTION, &err);
    if (print_help(options))
        return EXIT_OK;
    if (!options_finish(options, &err))
        return fail(EXIT_OPTION, &err);
    if (!options->vm.kernel && !options->vm.firmware && !use_default_guest(&session, &err))
        return fail(EXIT_OPTION, &err);
    if (!options->vm.command_line)
        options->vm.command_line = "";
    if (!open_log(options, &err))
        return fail(EXIT_IMAGE, &err);
    return run_machine(&session);
}
