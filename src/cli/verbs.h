/* The verbs of the `doppel` command, one file each. */
#pragma once

struct tty;

/* Exit statuses, as `doppel run --help` lists them. */
enum exit_status {
    EXIT_OK = 0,
    EXIT_HOST = 1,
    EXIT_OPTION = 2,
    EXIT_IMAGE = 3,
    EXIT_TRIPLE_FAULT = 4,
    EXIT_SIGNAL = 128, /* + number */
};

/* `argv` without program and verb, NULL at its end; `tty` is restored by main in every way of
 * leaving. Returns the exit status. */
int verb_run(char **argv, struct tty *tty);
