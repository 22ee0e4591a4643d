/*
 * Where processors of the two makers do different things, and the manuals leave it to them or
 * contradict each other. All of it is in instructions that engines let the host's processor
 * execute as they are, on the guest's registers or in a cell: so it follows the host and not
 * the vendor that CPUID names to the guest (struct x86_model.amd, -cpu vendor=), which decides
 * only on what x86/ does alone, such as SYSCALL.
 *
 * Found by tests/oracle on Zen 4 and on a Xeon with AMX.
 */
#pragma once

#include "base/bits.h"

enum x86_quirk {
    /* Alignment checks (SDM vol. 3, 6.15, interrupt 17) of operands of 16 and 32 bytes that
     * need no alignment, for 16. */
    QUIRK_AC_VECTORS = BIT(0),
    /* #AC comes before the #GP or #SS of an operand of which only the end is not canonical. */
    QUIRK_AC_AT_END = BIT(1),
    /* BOUND does not load the upper bound when the index is below the lower one. */
    QUIRK_BOUND_EARLY = BIT(2),
    /* 66 on near branches of 64-bit code cuts RIP to 16 bits (APM vol. 3, 1.2.3); else it is
     * ignored (SDM vol. 2, JMP). */
    QUIRK_BRANCH_16 = BIT(3),
    /* CALL touches the stack before it looks at the target, and stores there before, too. */
    QUIRK_CALL_PROBES = BIT(4),
    QUIRK_CALL_STORES = BIT(5),
    /* F3 90 with REX.B is no PAUSE: 90 names R8 then, so it exchanges. */
    QUIRK_PAUSE_R8 = BIT(6),
    /* 0F 0D with a register is #UD (APM vol. 3, PREFETCHlevel), no hint. */
    QUIRK_PREFETCH_MEMORY = BIT(7),
    /* PUSH of a segment register with a 32-bit operand writes only 16 bits (SDM vol. 2,
     * PUSH). */
    QUIRK_PUSH_SEG_16 = BIT(8),
    /* REP with 32-bit addressing in 64-bit code extends its registers even where it does
     * nothing: at a count of zero, or a fault at once. */
    QUIRK_REP_EXTENDS = BIT(9),
    /* A fault within REP CMPS or SCAS leaves the flags of the last turn; else those before the
     * instruction (SDM vol. 2, REP). */
    QUIRK_REP_FLAGS = BIT(10),
    /* ROL and ROR of registers by an immediate of 2 or more, modulo 32 or 64, keep OF, which is
     * undefined (SDM vol. 2, RCL); in memory, and by CL, they write it. Tried out. */
    QUIRK_ROTATE_OF = BIT(11),
    /* The undefined flags of AAA, AAS, DAA and DAS are those of AL, and OF is 0; else those of
     * the addition inside. */
    QUIRK_DECIMAL_RESULT = BIT(12),
    /* MOVSXD to 16 bits reads 16 (SDM vol. 2, MOVSX), not 32 (APM vol. 3, MOVSXD). */
    QUIRK_MOVSXD_16 = BIT(13),
    /* SHA's operands need no alignment, whatever APM vol. 4 says. */
    QUIRK_SHA_UNALIGNED = BIT(14),
    /* The elements of masked moves wrap at the address size like those of gathers; else they
     * follow each other. */
    QUIRK_MASK_WRAPS = BIT(15),
    /* Gathers extend the signs of the mask and clear what lies behind before anything can
     * fault (SDM vol. 2, VGATHERDPS), not element by element; the first element that is loaded
     * clears what lies behind the others. */
    QUIRK_GATHER_WHOLE = BIT(16),
    /* Conversions from and to half precision need no alignment (SDM vol. 2, table 2-27), and
     * VCVTPS2PH sets its flags in MXCSR before it looks at its operand. */
    QUIRK_HALF = BIT(17),
    /* An MMX store that faults has set the x87 TOP to 0. */
    QUIRK_MMX_TOP = BIT(18),
    /* An x87 store that an unmasked exception suppresses does not touch memory, and one of ten
     * bytes may fault between eight and two. */
    QUIRK_X87_STORES_LAST = BIT(19),
    /* The pointers to the last x87 instruction are saved only while an exception is pending,
     * else as zeroes (APM vol. 2, 11.4.4). */
    QUIRK_X87_HIDES_POINTERS = BIT(20),
    /* FOP changes at unmasked exceptions only (SDM vol. 1, 8.1.9). */
    QUIRK_X87_FOP_UNMASKED = BIT(21),
    /* So does FDP, and FCS and FDS are zero: the processor tells of both (SDM vol. 2, CPUID,
     * leaf 7, EBX 6 and 13). */
    QUIRK_X87_FDP_UNMASKED = BIT(22),
    QUIRK_X87_NO_SELECTORS = BIT(23),
    /* Of the pointers that FXRSTOR and XRSTOR load FIP keeps 57 bits (with LA57), FDP 64; else
     * both 48. */
    QUIRK_X87_FIP_57 = BIT(24),
    QUIRK_X87_FDP_64 = BIT(25),
    /* XRSTOR from the compact format has done all but load AVX registers when it finds MXCSR
     * bad. */
    QUIRK_XRSTOR_MXCSR = BIT(26),
};

#define QUIRKS_AMD                                                                             \
    (QUIRK_AC_VECTORS | QUIRK_BRANCH_16 | QUIRK_CALL_PROBES | QUIRK_PAUSE_R8 |                 \
     QUIRK_PREFETCH_MEMORY | QUIRK_REP_FLAGS | QUIRK_SHA_UNALIGNED | QUIRK_MASK_WRAPS |        \
     QUIRK_X87_HIDES_POINTERS)
#define QUIRKS_INTEL                                                                           \
    (QUIRK_AC_AT_END | QUIRK_BOUND_EARLY | QUIRK_CALL_STORES | QUIRK_DECIMAL_RESULT |          \
     QUIRK_MOVSXD_16 | QUIRK_PUSH_SEG_16 | QUIRK_REP_EXTENDS | QUIRK_GATHER_WHOLE |            \
     QUIRK_HALF | QUIRK_MMX_TOP | QUIRK_X87_STORES_LAST | QUIRK_X87_FOP_UNMASKED |             \
     QUIRK_X87_FDP_64 | QUIRK_XRSTOR_MXCSR)

/* Those of the host's processor. */
u32 x86_host_quirks(void);
