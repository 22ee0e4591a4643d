/*
 * Looks into a machine for the text monitor: registers, memory, page tables. The vCPUs are
 * parked (vm_hold).
 */
#pragma once

#include <stdio.h>

#include "base/error.h"
#include "platform/vcpu.h"

/* QEMU's `info registers`. */
void inspect_registers(const struct vcpu *vcpu, FILE *out);

/* `info tlb` and `info mem`: what the page tables map, page by page and as ranges. */
void inspect_pages(struct vcpu *vcpu, FILE *out);
void inspect_ranges(struct vcpu *vcpu, FILE *out);

/* How to show memory: gdb's letters. */
struct inspect_format {
    unsigned count;
    char letter;   /* x d u o c i */
    unsigned size; /* 1, 2, 4, 8; of no matter for 'i' */
};
/* "/4xw"; false: *err. */
bool inspect_format_parse(struct inspect_format *format, const char *text, struct error *err);
/* `x` and `xp`. */
void inspect_memory(struct vcpu *vcpu, bool physical, const struct inspect_format *format,
                    u64 addr, FILE *out);

/* Numbers, $registers, + - * ( ); reads from *text on and moves it behind. False: *err. */
bool inspect_value(const struct vcpu *vcpu, const char **text, u64 *value, struct error *err);

/* Bytes at a virtual (or guest-physical) address; false: not all of them are there. */
bool inspect_read(struct vcpu *vcpu, bool physical, u64 addr, void *buf, u64 len);
