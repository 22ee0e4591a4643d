/* -daemonize and -pidfile: a machine that goes on when its starter has the terminal back. */
#pragma once

#include "base/error.h"

/*
 * The process continues as a child in a session of its own. Its parent waits until
 * background_ready and ends with status 0, or with the child's status should it end before.
 * Before any thread is made. -1: *err; else the descriptor for background_ready.
 */
int background_start(struct error *err);
/* The machine is made: nothing more will be said on the terminal. */
void background_ready(int fd);

/* Writes the process's number into `path`. */
bool background_write_pid(const char *path, struct error *err);
