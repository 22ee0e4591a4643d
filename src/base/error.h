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

static inline bool error_failed(void)
{
    return false;
}

/* Formats the message; the macros are false, so that `return error_set(err, ...)` reads well
 * and the compiler knows it. */
void error_format(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define error_set(err, ...) (error_format((err), __VA_ARGS__), error_failed())

/* As error_set, with ": strerror(errno)" appended. */
void error_format_errno(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define error_errno(err, ...) (error_format_errno((err), __VA_ARGS__), error_failed())

/* Puts the option that the message is about, and a colon, in front of it. */
void error_prefix(struct error *err, const char *option);
