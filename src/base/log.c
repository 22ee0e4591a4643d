/* The log, see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct log_name log_names[LOG_CATEGORIES] = {
    [LOG_GUEST_ERRORS] = {"guest_errors",
                          "what the guest did wrong (unknown MSRs, bad registers)"},
    [LOG_UNIMP] = {"unimp", "guest requests that Doppel does not implement"},
    [LOG_INT] = {"int", "exceptions and interrupts as they are delivered"},
    [LOG_CPU] = {"cpu", "processor state at each exit"},
    [LOG_IN_ASM] = {"in_asm", "guest code as it is decoded or translated"},
    [LOG_OUT_ASM] = {"out_asm", "the translation"},
    [LOG_EXEC] = {"exec", "each instruction as it runs"},
    [LOG_MMU] = {"mmu", "page faults and page walks"},
    [LOG_IO] = {"io", "accesses to device registers"},
};

/* QEMU's, of which there is nothing to log here. */
static bool log_is_other(const char *word, size_t len)
{
    static const char *const others[] = {
        "none", "cpu_reset", "pcall", "op",     "op_opt", "op_ind", "op_plugin",  "nochain",
        "page", "fpu",       "vpu",   "strace", "tid",    "plugin", "invalid_mem"};
    for (unsigned i = 0; i < ARRAY_LEN(others); i++)
        if (strlen(others[i]) == len && !strncmp(others[i], word, len))
            return true;
    return false;
}

static bool log_parse_word(struct log *log, const char *word, size_t len)
{
    if (len == 3 && !strncmp(word, "all", 3)) {
        log->mask = (1u << LOG_CATEGORIES) - 1;
        return true;
    }
    for (unsigned i = 0; i < LOG_CATEGORIES; i++) {
        if (strlen(log_names[i].name) == len && !strncmp(log_names[i].name, word, len)) {
            log->mask |= 1u << i;
            return true;
        }
    }
    return log_is_other(word, len);
}

bool log_parse(struct log *log, const char *list)
{
    while (true) {
        size_t len = strcspn(list, ",");
        if (!log_parse_word(log, list, len))
            return false;
        if (!list[len])
            return true;
        list += len + 1;
    }
}

void log_write(const struct log *log, const char *format, ...)
{
    char line[2048];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof(line) - 1, format, args);
    va_end(args);
    if (len < 0)
        return;
    if ((size_t)len > sizeof(line) - 2)
        len = sizeof(line) - 2;
    line[len] = '\n';
    /* A log that cannot be written must not stop the machine. */
    if (write(log->fd, line, (size_t)len + 1) < 0)
        return;
}
