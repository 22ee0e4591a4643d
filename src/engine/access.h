/*
 * The x86_ops of a struct vcpu: what instruction semantics reach through the pmap, the software
 * TLB and the bus. Shared by the simulator and the translator's callouts, so that there is one
 * slow path for guest memory.
 *
 * Threads: each function runs in the vCPU's own thread, without the board lock.
 */
#pragma once

#include "platform/vcpu.h"

extern const struct x86_ops access_ops;

/*
 * Code at `la`: the host address of the byte and its frame, after an execute-permission walk
 * (raises #PF); NULL: not RAM, fetch it byte by byte through ops->fetch.
 */
const u8 *access_code(struct x86_cpu *c, struct gva la, struct gfn *frame);

/*
 * From here on no write to the frame goes unnoticed: the engine of each vCPU gets code_written
 * before the write's instruction ends there, and soon elsewhere. Call before reading the bytes
 * to decode.
 */
void access_watch_code(struct vcpu *vcpu, struct gfn frame);

/* board->code_written: a device wrote to a frame with code. Does not wait. */
void access_code_written(struct board *board, struct gfn frame);
