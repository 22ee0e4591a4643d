/*
 * The system calls that a cell and its mapper may make, as seccomp programs. What Syscall User
 * Dispatch lets through the stub's gadget still meets the cell's filter, so the filter is what
 * holds when guest code jumps to the gadget.
 */
#pragma once

#include <linux/filter.h>

#include "base/types.h"

#define FILTER_MAX 96

struct filter {
    struct sock_filter code[FILTER_MAX];
    u16 n;
};

/*
 * The cell: FUTEX_WAIT for 0 on `turn` without a timeout (so that a task found in this call is
 * parked, cell.c), FUTEX_WAKE on `mturn`, rt_sigreturn. The three calls that the
 * host's kernel makes for its vsyscall page become a signal: the page shows host time. All else
 * kills. Addresses are the cell's.
 *
 * A narrow cell may also make one call of the 32-bit table: set_thread_area, with one of the
 * TLS_MAX descriptors at `tls`. What it can set there are flat or empty data segments of its
 * own. `tls` 0: a wide cell, which may not.
 */
void filter_cell(struct filter *filter, u64 turn, u64 mturn, u64 tls);

/* The mapper: FUTEX_WAIT on `sequence`, FUTEX_WAKE on `turn`, mmap of guest memory with rights
 * that fit the descriptor, munmap, and write to its event descriptor. */
void filter_mapper(struct filter *filter, u64 sequence, u64 turn);
