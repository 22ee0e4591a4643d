/* The names of registers, flags and bits, as the manuals spell them (Intel SDM vol. 3, AMD APM
 * vol. 2). */
#pragma once

#include "base/bits.h"

enum x86_gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

enum x86_seg_reg {
    SEG_ES,
    SEG_CS,
    SEG_SS,
    SEG_DS,
    SEG_FS,
    SEG_GS,
    SEG_LDTR,
    SEG_TR,
    SEG_COUNT
};

/* RFLAGS, SDM vol. 1, 3.4.3 */
#define FLAG_CF    BIT(0)
#define FLAG_FIXED BIT(1) /* always one */
#define FLAG_PF    BIT(2)
#define FLAG_AF    BIT(4)
#define FLAG_ZF    BIT(6)
#define FLAG_SF    BIT(7)
#define FLAG_TF    BIT(8)
#define FLAG_IF    BIT(9)
#define FLAG_DF    BIT(10)
#define FLAG_OF    BIT(11)
#define FLAG_IOPL  (3ull << 12)
#define FLAG_NT    BIT(14)
#define FLAG_RF    BIT(16)
#define FLAG_VM    BIT(17)
#define FLAG_AC    BIT(18)
#define FLAG_VIF   BIT(19)
#define FLAG_VIP   BIT(20)
#define FLAG_ID    BIT(21)
/* The six that arithmetic sets. */
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Control registers, SDM vol. 3, 2.5 */
#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_VME        BIT(0)
#define CR4_PVI        BIT(1)
#define CR4_TSD        BIT(2)
#define CR4_DE         BIT(3)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_PCE        BIT(8)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)

/* Page-table entries, SDM vol. 3, 4.5 */
#define PTE_P   BIT(0)
#define PTE_W   BIT(1)
#define PTE_U   BIT(2)
#define PTE_PWT BIT(3)
#define PTE_PCD BIT(4)
#define PTE_A   BIT(5)
#define PTE_D   BIT(6)
#define PTE_PS  BIT(7)
#define PTE_G   BIT(8)
#define PTE_NX  BIT(63)

/* Page-fault error code, SDM vol. 3, 4.7 */
#define PF_P    BIT(0)
#define PF_W    BIT(1)
#define PF_U    BIT(2)
#define PF_RSVD BIT(3)
#define PF_I    BIT(4)

/* Segment attributes: descriptor bits 40..55 as in the high dword shifted right by 8, that is
 * type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15; plus our own "null selector loaded".
 */
#define SEG_TYPE      0xfu
#define SEG_ACCESSED  BIT(0)
#define SEG_WRITE     BIT(1) /* data: writable; code: readable */
#define SEG_READ      BIT(1)
#define SEG_DOWN      BIT(2) /* data: expand-down; code: conforming */
#define SEG_CONFORM   BIT(2)
#define SEG_CODE      BIT(3)
#define SEG_S         BIT(4)
#define SEG_P         BIT(7)
#define SEG_L         BIT(13)
#define SEG_DB        BIT(14)
#define SEG_G         BIT(15)
#define SEG_NULL      BIT(16)
#define SEG_DPL(attr) (((attr) >> 5) & 3)

/* System descriptor types, SDM vol. 3, table 3-2 */
#define DESC_TSS16_AVAIL 1
#define DESC_LDT         2
#define DESC_TSS16_BUSY  3
#define DESC_CALL16      4
#define DESC_TASK_GATE   5
#define DESC_INT16       6
#define DESC_TRAP16      7
#define DESC_TSS_AVAIL   9
#define DESC_TSS_BUSY    11
#define DESC_CALL        12
#define DESC_INT         14
#define DESC_TRAP        15

/* Exceptions, SDM vol. 3, table 6-1 */
enum x86_vector {
    VEC_DE = 0,
    VEC_DB = 1,
    VEC_NMI = 2,
    VEC_BP = 3,
    VEC_OF = 4,
    VEC_BR = 5,
    VEC_UD = 6,
    VEC_NM = 7,
    VEC_DF = 8,
    VEC_TS = 10,
    VEC_NP = 11,
    VEC_SS = 12,
    VEC_GP = 13,
    VEC_PF = 14,
    VEC_MF = 16,
    VEC_AC = 17,
    VEC_MC = 18,
    VEC_XM = 19,
};

/* Debug registers, SDM vol. 3, 17.2 */
#define DR6_BD    BIT(13)
#define DR6_BS    BIT(14)
#define DR6_BT    BIT(15)
#define DR6_FIXED 0xffff0ff0ull /* reads as ones */
#define DR7_FIXED BIT(10)
#define DR7_GD    BIT(13)

/* Model-specific registers, SDM vol. 4 and AMD APM vol. 2, appendix A */
#define MSR_TSC               0x10
#define MSR_PLATFORM_ID       0x17
#define MSR_APIC_BASE         0x1b
#define MSR_FEATURE_CONTROL   0x3a
#define MSR_TSC_ADJUST        0x3b
#define MSR_SPEC_CTRL         0x48
#define MSR_PRED_CMD          0x49
#define MSR_UCODE_REV         0x8b
#define MSR_PLATFORM_INFO     0xce
#define MSR_MTRRCAP           0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_MISC_FEATURES     0x140
#define MSR_SYSENTER_CS       0x174
#define MSR_SYSENTER_ESP      0x175
#define MSR_SYSENTER_EIP      0x176
#define MSR_MCG_CAP           0x179
#define MSR_MCG_STATUS        0x17a
#define MSR_MCG_CTL           0x17b
#define MSR_MISC_ENABLE       0x1a0
#define MSR_DEBUGCTL          0x1d9
#define MSR_MTRR_PHYSBASE0    0x200
#define MSR_MTRR_FIX64K       0x250
#define MSR_MTRR_FIX16K_80000 0x258
#define MSR_MTRR_FIX4K_C0000  0x268
#define MSR_PAT               0x277
#define MSR_MTRR_DEF_TYPE     0x2ff
#define MSR_MC0_CTL           0x400
#define MSR_TSC_DEADLINE      0x6e0
#define MSR_X2APIC            0x800
#define MSR_XSS               0xda0
#define MSR_EFER              0xc0000080
#define MSR_STAR              0xc0000081
#define MSR_LSTAR             0xc0000082
#define MSR_CSTAR             0xc0000083
#define MSR_SFMASK            0xc0000084
#define MSR_FS_BASE           0xc0000100
#define MSR_GS_BASE           0xc0000101
#define MSR_KERNEL_GS_BASE    0xc0000102
#define MSR_TSC_AUX           0xc0000103
#define MSR_SYSCFG            0xc0010010
#define MSR_HWCR              0xc0010015
#define MSR_KVM_WALL_CLOCK    0x4b564d00
#define MSR_KVM_SYSTEM_TIME   0x4b564d01
#define MSR_KVM_ASYNC_PF_EN   0x4b564d02
#define MSR_KVM_STEAL_TIME    0x4b564d03
#define MSR_KVM_PV_EOI_EN     0x4b564d04

/* MSR_PLATFORM_INFO: MSR_MISC_FEATURES has CPUID_FAULTING, which lets CPUID raise #GP(0) in
 * user mode (Intel, Virtualization Technology FlexMigration Application Note, 2.3.1). */
#define PLATFORM_CPUID_FAULTING      BIT(31)
#define MISC_FEATURES_CPUID_FAULTING BIT(0)

#define SPEC_CTRL_IBRS      BIT(0)
#define SPEC_CTRL_BHI_DIS_S BIT(10)
#define PRED_CMD_IBPB       BIT(0)

/* MSR_ARCH_CAPABILITIES: what depends on the host's processor; the rest are features (model.h).
 */
#define ARCH_CAP_SSB_NO       BIT(4)
#define ARCH_CAP_MDS_NO       BIT(5)
#define ARCH_CAP_TAA_NO       BIT(8)
#define ARCH_CAP_SBDR_SSDP_NO BIT(13)
#define ARCH_CAP_FBSDP_NO     BIT(14)
#define ARCH_CAP_PSDP_NO      BIT(15)
#define ARCH_CAP_GDS_NO       BIT(26)
#define ARCH_CAP_RFDS_NO      BIT(27)

#define EFER_SCE    BIT(0)
#define EFER_LME    BIT(8)
#define EFER_LMA    BIT(10)
#define EFER_NXE    BIT(11)
#define EFER_FFXSR  BIT(14)
#define EFER_AIBRSE BIT(21)
