/*
 * A processor with nothing around it, for unit tests and fuzzers: memory is one array at linear
 * address FAKE_BASE without paging, each page of it readable, read-only or absent; MSRs, ports
 * and the rest answer plainly. Instructions are put into memory and run one at a time.
 */
#pragma once

#include "base/log.h"
#include "x86/insn.h"
#include "x86/mem.h"
#include "x86/model.h"

#define FAKE_BASE  0x10000ull
#define FAKE_PAGES 16
#define FAKE_SIZE  (FAKE_PAGES * PAGE_SIZE)
#define FAKE_CODE  FAKE_BASE                     /* where fake_run puts the instruction */
#define FAKE_DATA  (FAKE_BASE + 2 * PAGE_SIZE)   /* free for the test */
#define FAKE_STACK (FAKE_BASE + FAKE_SIZE - 256) /* RSP at first */

struct fake {
    struct x86_cpu cpu;
    struct x86_model model;
    struct log log;
    u8 memory[FAKE_SIZE] __attribute__((aligned(4096)));
    bool absent[FAKE_PAGES];
    bool read_only[FAKE_PAGES];
    bool refuse_atomic; /* ops->atomic answers NULL: the bus lock is used */
    unsigned locks;     /* lock_begin less lock_end */
    unsigned lock_calls;
    unsigned ferr_calls;
    bool ignne; /* IGNNE# is given */
    /* The executable area of native_emit. */
    u8 *native;
    size_t native_used;
};

#define FAKE_NATIVE_SIZE (256 * KiB)

/*
 * A fresh processor in protected mode (64-bit mode for code_size 8) at CPL 0 with flat segments
 * and every feature of the host, of Intel's make. `use_tlb`: the software TLB holds all of
 * memory, else every access goes through the ops.
 */
struct fake *fake_new(unsigned code_size, bool use_tlb);
void fake_free(struct fake *f);

/* Marks the page at `la` and takes it out of the TLB. */
void fake_protect(struct fake *f, u64 la, bool absent, bool read_only);

/*
 * Decodes the bytes at FAKE_CODE and executes them once. Returns -1, or the vector of the
 * exception raised (cpu.fault has the rest).
 */
int fake_run(struct fake *f, const void *bytes, unsigned size);

/* The same with the bytes written in place: FAKE_RUN(f, 0x48, 0x89, 0xc3). */
#define FAKE_RUN(f, ...)                                                                       \
    fake_run(f, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* The host's view of the bytes at a linear address. */
void *fake_at(struct fake *f, u64 la);
