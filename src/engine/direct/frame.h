/*
 * Signal frames: how the host's kernel hands over the registers of a cell, and takes them back
 * by rt_sigreturn. A frame that comes from a cell is the guest's word: it is copied once, and
 * only what user code may change is taken from the copy. A frame that goes to a cell is written
 * anew each time, every field.
 */
#pragma once

#include "x86/cpu.h"

/* What a Linux host has in the registers of its 64-bit and 32-bit programs. */
#define HOST_CS   0x33
#define HOST_CS32 0x23
#define HOST_DS   0x2b

/* The order of data segments in struct stop and struct control. */
extern const u8 frame_segments[4];

/* Linux's struct ucontext on x86-64 (arch/x86/include/uapi/asm/sigcontext.h). */
struct frame {
    u64 flags, link;
    u64 stack_pointer;
    u32 stack_flags, gap;
    u64 stack_size;
    u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
    u64 rflags;
    u16 cs, gs, fs, ss;
    u64 error, trap, old_mask, cr2;
    u64 fpu; /* address of the XSAVE image */
    u64 reserved[8];
    u64 mask;
};

/* What was wrong, as the frame and its siginfo tell: hints, for which the guest may have
 * lied. */
struct stop {
    int signal, code;
    u64 trap, error, cr2; /* of the signals that are exceptions */
    u64 call_address;     /* of SIGSYS */
    u64 cycles; /* TSC that the guest's code took, the host's part of the stop included */
    u16 cs, ss, selector[4]; /* DS, ES, FS, GS: user code may load them all by itself */
};

/* Where a cell keeps what frames are made of: its addresses and the monitor's. */
struct frame_place {
    u64 base; /* of the block in the cell */
    u8 *block;
};

/* Writes the frame that resumes the processor. The caller has checked frame_can_hold. */
void frame_write(const struct frame_place *place, const struct x86_cpu *c);

/* Takes the stop that the cell reports into the processor and *stop. False: there is no frame
 * where the cell says; *c is unchanged. */
bool frame_take(const struct frame_place *place, struct x86_cpu *c, struct stop *stop);
