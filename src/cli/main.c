/* The `doppel` command: a verb and its arguments. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/types.h"
#include "cli/verbs.h"
#include "host/trap.h"
#include "host/tty.h"

#ifndef DOPPEL_VERSION
#define DOPPEL_VERSION "unknown"
#endif

static const struct verb {
    const char *name;
    const char *help;
    int (*main)(char **argv, struct tty *tty);
} verbs[] = {
    {"run", "start a virtual machine", verb_run},
};

static const struct verb *find_verb(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(verbs); i++)
        if (!strcmp(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

/* The terminal as we found it: put back when the process ends, however it ends. */
static struct tty terminal;

static void restore_terminal(void)
{
    tty_restore(&terminal);
}

/* An internal error (base/ensure.h) still leaves a usable terminal. */
static void on_abort(int signal_number)
{
    tty_restore(&terminal);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void usage(FILE *out)
{
    fputs(
        "usage: doppel VERB [OPTION]...\n\n"
        "A virtual machine monitor for x86-64 Linux that needs no hardware virtualization, no\n"
        "kernel module and no privileges. Its options are QEMU's, where QEMU has a word.\n\n"
        "Verbs:\n",
        out);
    for (unsigned i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(out, "  %-10s %s\n", verbs[i].name, verbs[i].help);
    fputs("\n`doppel VERB --help` tells more. `doppel -OPTION...` means `doppel run "
          "-OPTION...`.\n",
          out);
}

static bool is_option(const char *word, const char *name)
{
    return word[0] == '-' && !strcmp(word + 1 + (word[1] == '-'), name);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (is_option(word, "version")) {
        puts("doppel " DOPPEL_VERSION);
        return EXIT_OK;
    }
    if (is_option(word, "help") || is_option(word, "h") || !strcmp(word, "help")) {
        static char *const help_words[] = {"-help", NULL};
        const struct verb *verb = argc > 2 ? find_verb(argv[2]) : NULL;
        if (verb)
            return verb->main((char **)help_words, &terminal);
        usage(stdout);
        return EXIT_OK;
    }
    /* A fixed threshold: by default glibc raises it at the first large free, and then keeps the
     * heap that held the kernel image (14 MiB) for the machine's life. */
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    atexit(restore_terminal);
    signal(SIGABRT, on_abort);
    trap_on_crash(restore_terminal);
    const struct verb *verb = find_verb(word);
    if (verb)
        return verb->main(argv + 2, &terminal);
    if (word[0] == '-' || (*word && !access(word, F_OK)))
        return verb_run(argv + 1, &terminal);
    if (*word)
        fprintf(stderr, "doppel: no verb '%s'; doppel --help lists them\n", word);
    else
        usage(stderr);
    return EXIT_OPTION;
}
