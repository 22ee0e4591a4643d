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
 * From here on no write to the frame goes unnoticed: the engine of each vCPU gets code_written,
 * when the write is to lines that were noted, before the write's instruction ends there, and
 * soon elsewhere. Call before access_note_code.
 */
void access_watch_code(struct vcpu *vcpu, struct gfn frame);

/* Code was decoded from these lines of a watched frame (pmap_lines): compare the bytes after
 * this call with what was decoded. Whatever is written later is told. */
void access_note_code(struct vcpu *vcpu, struct gfn frame, u64 lines);

/* Watches the frame and notes all of it: call before reading it. The first write ends the
 * watch. */
void access_watch_page(struct vcpu *vcpu, struct gfn frame);

/*
 * A write beside the code of a watched frame, by somebody who cannot forget code just now: is
 * there nothing decoded from those lines, and is the watch to last? Counts the write. Ask once
 * more after it (`again`): then false means that access_tell_written must be called.
 */
bool access_beside_code(struct vcpu *vcpu, struct gfn frame, u64 lines, bool again);
void access_tell_written(struct vcpu *vcpu, struct gfn frame, u64 lines);

/* board->code_written: a device wrote to a frame with code. Does not wait. */
void access_code_written(struct board *board, struct gfn frame);
