/*
 * x87, MMX, SSE and AVX instructions run on the host's own units: at decode time each becomes a
 * thunk, host code that loads the registers the instruction names from the x86_cpu, runs the
 * instruction itself with its memory operand at [rsi], and stores what it changed. So results,
 * rounding, flags and NaNs are the processor's by construction.
 *
 * A thunk is a function of this shape; it keeps rdi and rsi, needs no stack but red-zone-free
 * pushes, and follows the System V ABI:
 *     bool code(struct x86_cpu *c, void *mem)
 * `mem` is the guest's memory operand: in RAM itself where the software TLB has the page, else
 * a 64-byte aligned copy. It returns true, but see native_head.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "x86/insn.h"
#include "x86/model.h"

typedef bool native_code(struct x86_cpu *c, void *mem);

/*
 * Stands right before a thunk's entry (x86_insn.native), which is 16-byte aligned. When the
 * instruction meets an unmasked SIMD floating-point exception the host gets SIGFPE; its handler
 * resumes at entry + fault_exit with the other registers as they were. The fault exit saves
 * MXCSR, gives the host its own back, and returns false with no guest register changed.
 */
struct native_head {
    u32 fault_exit;
    u32 host_mxcsr;
    u64 reserved;
};

static inline const struct native_head *native_head(const void *code)
{
    return (const struct native_head *)code - 1;
}

/* x86_insn.native_flags */
#define NATIVE_LOAD  BIT(0) /* reads its memory operand */
#define NATIVE_STORE BIT(1) /* writes it */
#define NATIVE_MXCSR BIT(2) /* runs with the guest's MXCSR: may raise #XM */
#define NATIVE_MMX   BIT(3) /* names an MMX register: x87 checks, TOP := 0, all tags valid */
#define NATIVE_ZERO  BIT(4) /* plain moves: bits above the datum, up to 127, become zero */
#define NATIVE_ALIGN BIT(5) /* INSN_ALIGN even with MXCSR.MM: the aligned moves */

#define NATIVE_HALF BIT(6) /* QUIRK_HALF applies */

#define MXCSR_DEFAULT 0x1f80u
/* AMD's misaligned mode: no alignment rule for operands of arithmetic (APM vol. 2, 11.2). */
#define MXCSR_MM BIT(17)
/* The MXCSR bits that exist (SDM vol. 1, 10.2.3). */
static inline u32 native_mxcsr_mask(const struct x86_cpu *c)
{
    return x86_has(c->model, FEAT_MISALIGNSSE) ? (u32)MXCSR_MM | 0xffff : 0xffff;
}

/* x87 control and status word, SDM vol. 1, 8.1 */
#define FCW_DEFAULT    0x37fu
#define FSW_EXCEPTIONS 0x3fu
#define FSW_ES         BIT(7)
#define FSW_B          BIT(15)

/*
 * The feature that an instruction of the vector and x87 groups needs beside AVX for its VEX
 * form; FEAT_NEVER for sets that Doppel does not offer and for all other groups.
 */
enum x86_feature native_feature(const ZydisDecodedInstruction *z);

/*
 * For x86_decode, after it has filled the common fields and operands of *i, for every mnemonic
 * without a row in exec_*.def: chooses i->exec and emits the thunk. What is no vector or x87
 * instruction, or needs a feature that the model lacks, becomes exec_ud.
 */
enum x86_decode_result native_lower(struct x86_cpu *c, const ZydisDecodedInstruction *z,
                                    const ZydisDecodedOperand *operands, const u8 *bytes,
                                    struct x86_insn *i);

/* -- Shared by the exec_* files of the group ----------------------------------------------- */

/*
 * #UD and #NM by CR0, CR4 and XCR0, in the order of SDM vol. 2, 2.4 and vol. 3, 2.5. The
 * refuse functions find out which; they do not return when the condition that led there holds.
 */
void native_refuse_sse(struct x86_cpu *c);
void native_refuse_avx(struct x86_cpu *c);
void native_refuse_mmx(struct x86_cpu *c);
/* A pending unmasked x87 exception: #MF, or FERR# where CR0.NE is clear. */
void native_refuse_mf(struct x86_cpu *c);

/* Legacy encodings of XMM instructions. */
static inline void native_check_sse(struct x86_cpu *c)
{
    if (unlikely(c->cr0 & (CR0_EM | CR0_TS)) || unlikely(!(c->cr4 & CR4_OSFXSR)))
        native_refuse_sse(c);
}

static inline void native_check_avx(struct x86_cpu *c)
{
    const u64 both = XCR0_SSE | XCR0_AVX;
    if (unlikely(c->cr0 & CR0_TS) || unlikely(!(c->cr4 & CR4_OSXSAVE)) ||
        unlikely((c->xcr0 & both) != both) || unlikely(c->code_size == 2))
        native_refuse_avx(c);
}

/* Before each waiting x87 and each MMX instruction. */
static inline void native_check_mf(struct x86_cpu *c)
{
    if (unlikely(c->fpu.fsw & FSW_ES))
        native_refuse_mf(c);
}

static inline void native_check_mmx(struct x86_cpu *c)
{
    if (unlikely(c->cr0 & (CR0_EM | CR0_TS)))
        native_refuse_mmx(c);
    native_check_mf(c);
}

/* The whole check of non-waiting x87 instructions. */
static inline void native_check_x87(struct x86_cpu *c)
{
    if (unlikely(c->cr0 & (CR0_EM | CR0_TS)))
        x86_raise(c, VEC_NM);
}

/* TOP := top; the physical registers stay, so ST(i), which the state holds, move. */
void native_set_top(struct x86_cpu *c, unsigned top);
/* MMX state: TOP := 0, ST(i) and MMi become the same register, all tags valid. */
void native_enter_mmx(struct x86_cpu *c);

/* The linear address of the memory operand after all checks but paging. */
struct gva native_address(struct x86_cpu *c, struct x86_insn *i, unsigned size,
                          enum x86_access access);

/* The linear address of `size` bytes at offset `ea` of the operand's segment, without the
 * alignment check: for elements and images. */
struct gva native_linear_any(struct x86_cpu *c, const struct x86_insn *i, u64 ea, unsigned size,
                             enum x86_access access);

/*
 * State images at the memory operand, larger than one access: probe the whole range, then load
 * or store pieces at `offset` from it.
 */
void native_image_probe(struct x86_cpu *c, struct x86_insn *i, unsigned size,
                        enum x86_access access);
void native_image_load(struct x86_cpu *c, struct x86_insn *i, unsigned offset, void *buf,
                       unsigned size);
void native_image_store(struct x86_cpu *c, struct x86_insn *i, unsigned offset, const void *buf,
                        unsigned size);

/* XINUSE: which of XCR0_X87, XCR0_SSE and XCR0_AVX are not in their initial configuration (SDM
 * vol. 1, 13.6); for XGETBV with ECX = 1 and the XSAVE family. */
u64 native_xinuse(const struct x86_cpu *c);
