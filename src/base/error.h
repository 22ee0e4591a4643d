/*
 * A user's or the host's error: a message built where it happens and printed once, at the edge
 * (law 4). A function that can fail takes `struct error *err` last and returns bool, a pointer
 * or -1; on failure it has filled *err. The message names the option or file and the remedy,
 * has no final full stop and no newline.
 */
#pragma once

#include "base/types.h"

struct error {
    char text[512];
};

/* Formats the message; returns false, so that `return error_set(err, ...)` reads well. */
bool error_set(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* As error_set, with ": strerror(errno)" appended. */
bool error_errno(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
