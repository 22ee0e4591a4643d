/*
 * What the monitor, a cell and its mapper share: the pages of a cell's block, who writes each
 * field, and who may believe it. Also read by stub.S.
 *
 * The block is one memory file of CELL_PAGES pages. The monitor maps all of it writable. In the
 * address space that cell and mapper share it stands at a place chosen for each cell:
 *
 *   page 0      stub           read, execute   written by the monitor before the cell exists
 *   page 1..4   struct orders  read            written by the monitor
 *   page 5      struct control read, write     written by everyone: the guest's word
 *   page 6      struct frame   read, write     written by the monitor before each resume
 *   page 7..9   signal stack   read, write     written by the host's kernel: the guest's word
 *   then        annex, tables  read            written by the monitor (annex.h)
 *   then        annex, code    read, execute   written by the monitor
 *
 * Guest code in the cell can write pages 5 to 9 at any time while it runs, and jump anywhere in
 * page 0 and the annex. So the monitor copies what it takes from there once and judges the
 * copy, the mapper reads orders only, and what the mapper did is told by its event descriptor,
 * which the cell does not have.
 *
 * Turns: the monitor sets `turn` to let the cell run; the stub clears it as it goes, and sets
 * `mturn` when the cell has stopped. Each side says when it sleeps, so that a partner still
 * awake costs no system call. Every wait of the monitor has a deadline (cell.c). A cell whose
 * turn comes after a batch of mappings is woken by the mapper, as the batch's last order.
 */
#pragma once

#define CELL_STUB_PAGE    0
#define CELL_ORDERS_PAGE  1
#define CELL_CONTROL_PAGE 5
#define CELL_FRAME_PAGE   6
#define CELL_STACK_PAGE   7
#define CELL_TABLE_PAGE   10
#define CELL_CODE_PAGE    42
#define CELL_PAGES        98

/* Offsets that the stub needs. */
#define ORDERS_SEQUENCE 0
#define ORDERS_N        4
#define ORDERS_VALUES   64
#define ORDERS_MAX      224
#define ORDERS_SCRIPT   (ORDERS_VALUES + 8 * (ORDERS_MAX + 2))
#define SCRIPT_MAX      20
#define ORDER_SIZE      56
#define ORDERS_LIST     (ORDERS_SCRIPT + ORDER_SIZE * SCRIPT_MAX)
#define SCRIPT_END      (-1)

#define CONTROL_TURN           0
#define CONTROL_MTURN          64
#define CONTROL_CELL_ASLEEP    128
#define CONTROL_MONITOR_ASLEEP 192
#define CONTROL_SIGNAL         256
#define CONTROL_INFO           264
#define CONTROL_CONTEXT        272
#define CONTROL_FS_BASE        280
#define CONTROL_GS_BASE        288
#define CONTROL_SELECTORS      296
#define CONTROL_NEW_FLAGS      304
#define CONTROL_NEW_SELECTORS  312
#define CONTROL_NEW_FS_BASE    320
#define CONTROL_NEW_GS_BASE    328
#define CONTROL_MAPPER         336
#define CONTROL_STARTED        344
#define CONTROL_STOPPED        352
#define CONTROL_N_TLS          360
#define CONTROL_TLS            368
#define TLS_SIZE               16
#define TLS_MAX                3
#define CONTROL_SLOTS          512
#define SLOTS                  5

/* The descriptors of the mapper; the cell has none. */
#define MAPPER_REPORT 0 /* its event descriptor: the monitor alone reads it */
#define MAPPER_WRITE  1 /* guest memory, read and write */
#define MAPPER_READ   2 /* guest memory, opened for reading: no mprotect makes it writable */

/* How often the monitor gives up the processor before it sleeps: a stop that comes at once then
 * costs no wake-up. The cell never yields, see stub.S. */
#define MONITOR_YIELDS 2

#ifndef __ASSEMBLER__

#include "base/types.h"
#include "base/addr.h"

/* A system call for the mapper, or for the cell while it sets itself up. */
struct order {
    u64 number;
    u64 argument[6];
};

/* Monitor to mapper. A batch is `n` orders; a new `sequence` starts it. The mapper stops at the
 * first that fails and reports value[done], a number that is `done` + 1. */
struct orders {
    u32 sequence;
    u32 n;
    u8 unused[ORDERS_VALUES - 8];
    u64 value[ORDERS_MAX + 2];
    struct order script[SCRIPT_MAX]; /* of the cell's own set-up */
    struct order list[ORDERS_MAX];
};

/*
 * A descriptor of the host's three places for thread-local segments, as set_thread_area takes
 * it: struct user_desc of arch/x86/include/uapi/asm/ldt.h.
 */
struct tls {
    u32 entry; /* of the GDT, from TLS_FIRST */
    u32 base, limit, flags;
};
#define TLS_FIRST 12
/* Flags: 32-bit data that grows up and may be written, limit in pages; available to software;
 * and an empty descriptor: not present, not writable. */
#define TLS_DATA      0x11u
#define TLS_AVAILABLE 0x40u
#define TLS_EMPTY     0x28u

struct control {
    _Atomic u32 turn; /* monitor: 1, run; stub: 0, taken */
    u32 gap0[15];
    _Atomic u32 mturn; /* stub: 1, stopped; the host's kernel: 0 when the cell dies */
    u32 gap1[15];
    _Atomic u32 cell_asleep; /* stub */
    u32 gap2[15];
    _Atomic u32 monitor_asleep; /* monitor; a wrong value makes the cell's wake-up late */
    u32 gap3[15];
    /* The stop as the stub saw it: the guest's word, all of it. */
    u64 signal, info, context; /* handler arguments: addresses in the cell's address space */
    u64 fs_base, gs_base;
    u16 selector[4];              /* DS, ES, FS, GS */
    u64 new_flags;                /* monitor: ID and NT, which rt_sigreturn does not restore */
    u16 new_selector[4];          /* monitor: DS, ES, FS, GS */
    u64 new_fs_base, new_gs_base; /* monitor: what the stub loads on resume */
    u32 mapper, gap5;             /* the host's kernel: the mapper's process number */
    u64 started, stopped;         /* stub: TSC around the guest's code, for the policy */
    u32 n_tls, gap6;              /* monitor: how many the stub sets before the selectors */
    struct tls tls[TLS_MAX];      /* monitor */
    u8 gap7[CONTROL_SLOTS - CONTROL_TLS - TLS_MAX * TLS_SIZE];
    u64 slot[SLOTS]; /* code of the annex: registers that it uses itself */
};

_Static_assert(offsetof(struct orders, value) == ORDERS_VALUES, "stub.S");
_Static_assert(offsetof(struct orders, script) == ORDERS_SCRIPT, "stub.S");
_Static_assert(offsetof(struct orders, list) == ORDERS_LIST, "stub.S");
_Static_assert(sizeof(struct order) == ORDER_SIZE, "stub.S");
_Static_assert(sizeof(struct orders) <= (CELL_CONTROL_PAGE - CELL_ORDERS_PAGE) * PAGE_SIZE,
               "the orders fit their pages");
_Static_assert(offsetof(struct control, mturn) == CONTROL_MTURN, "stub.S");
_Static_assert(offsetof(struct control, cell_asleep) == CONTROL_CELL_ASLEEP, "stub.S");
_Static_assert(offsetof(struct control, monitor_asleep) == CONTROL_MONITOR_ASLEEP, "stub.S");
_Static_assert(offsetof(struct control, signal) == CONTROL_SIGNAL, "stub.S");
_Static_assert(offsetof(struct control, selector) == CONTROL_SELECTORS, "stub.S");
_Static_assert(offsetof(struct control, new_flags) == CONTROL_NEW_FLAGS, "stub.S");
_Static_assert(offsetof(struct control, new_fs_base) == CONTROL_NEW_FS_BASE, "stub.S");
_Static_assert(offsetof(struct control, mapper) == CONTROL_MAPPER, "stub.S");
_Static_assert(offsetof(struct control, started) == CONTROL_STARTED, "stub.S");
_Static_assert(offsetof(struct control, new_selector) == CONTROL_NEW_SELECTORS, "stub.S");
_Static_assert(offsetof(struct control, n_tls) == CONTROL_N_TLS, "stub.S");
_Static_assert(offsetof(struct control, tls) == CONTROL_TLS, "stub.S");
_Static_assert(offsetof(struct control, slot) == CONTROL_SLOTS, "annex code");
_Static_assert(sizeof(struct tls) == TLS_SIZE, "stub.S");

/* The stub (stub.S) as it is linked here; it is copied, and runs at any address. */
extern const u8 cell_stub[], cell_stub_end[];
/* Places in it. */
extern const u8 cell_stub_start[], cell_stub_handler[], cell_stub_gadget[],
    cell_stub_gadget_end[], cell_stub_legacy_end[];

#endif
