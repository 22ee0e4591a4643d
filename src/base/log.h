/*
 * What Doppel tells people while it runs: the categories of `-d`, written to stderr or the file
 * of
 * `-D`. A log belongs to one VM; it is passed, never global. Logging is thread-safe (one
 * write(2) a line). A category that is off costs one test of a bit.
 */
#pragma once

#include "base/types.h"

enum log_category {
    LOG_GUEST_ERRORS, /* what the guest did wrong: unknown MSRs, bad register writes */
    LOG_UNIMP,        /* what Doppel lacks: named once, so that it can be built */
    LOG_INT,          /* exceptions and interrupts as they are delivered */
    LOG_CPU,          /* processor state at each exit or unit */
    LOG_IN_ASM,       /* guest code as it is translated */
    LOG_OUT_ASM,      /* its translation */
    LOG_EXEC,         /* each instruction as it runs: enormous */
    LOG_MMU,          /* page walks and TLB fills that fault */
    LOG_IO,           /* device register accesses */
    LOG_CATEGORIES,
};

struct log {
    u32 mask; /* one bit for each category */
    int fd;   /* where lines go */
};

/* A line of `-d help`: the category's name and what it shows. */
struct log_name {
    const char *name;
    const char *help;
};
extern const struct log_name log_names[LOG_CATEGORIES];

/* Adds the categories of a comma-separated list ("int,guest_errors", "all"); false: unknown
 * word. */
bool log_parse(struct log *log, const char *list);

static inline bool log_on(const struct log *log, enum log_category category)
{
    return unlikely(log->mask & (1u << category));
}

void log_write(const struct log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* One line; the newline is added. Arguments are evaluated only when the category is on. */
#define log_to(log, category, ...)                                                             \
    do {                                                                                       \
        if (log_on((log), (category)))                                                         \
            log_write((log), __VA_ARGS__);                                                     \
    } while (0)
