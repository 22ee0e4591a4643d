/*
 * Paging of 32-bit mode: two-level tables with and without 4 MiB pages (and their 40-bit
 * addresses), three-level tables (PAE) with NX and their registers for the top level, each
 * combination of permissions against a model, and switching among them (SDM 3A 4.3, 4.4).
 */
#include "lib/system.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
enum { ERROR_P = 1, ERROR_W = 2, ERROR_U = 4, ERROR_RSVD = 8, ERROR_I = 16 };
enum { TEST = 0x40000000, PHYSICAL = 32 << 20 };

#define NX BIT(63)

static u32 directory[1024] __attribute__((aligned(4096)));
static u32 table[1024] __attribute__((aligned(4096)));
static u64 pdpt[4] __attribute__((aligned(32)));
static u64 directories[4][512] __attribute__((aligned(4096)));
static u64 table_pae[512] __attribute__((aligned(4096)));
static bool pae;
static u32 efer_nxe;

static void flush(void)
{
    write_cr3(read_cr3());
}

/* Identity for 64 MiB (supervisor), the same once more for ring 3 at 2 GiB, devices at 4
 * GiB. */
static void legacy_on(void)
{
    for (u32 i = 0; i < 16; i++) {
        directory[i] = i << 22 | PS | P | W;
        directory[512 + i] = i << 22 | PS | P | W | U;
    }
    for (u32 i = 0x3fb; i < 1024; i++)
        directory[i] = i << 22 | PS | P | W;
    directory[TEST >> 22] = (u32)table | P | W | U;
    write_cr4((read_cr4() & ~CR4_PAE) | CR4_PSE);
    write_cr3((u32)directory);
    write_cr0(read_cr0() | CR0_PG);
    user_base = 0x80000000;
    pae = false;
}

static void pae_on(void)
{
    for (u32 i = 0; i < 32; i++) {
        directories[0][i] = i << 21 | PS | P | W;
        directories[2][i] = i << 21 | PS | P | W | U;
    }
    for (u32 i = 0; i < 4; i++)
        pdpt[i] = (u32)directories[i] | P;
    for (u32 i = 0x1f6; i < 512; i++)
        directories[3][i] = 0xc0000000 + (i << 21) + (PS | P | W);
    directories[1][0] = (u32)table_pae | P | W | U;
    write_cr4(read_cr4() | CR4_PAE);
    write_cr3((u32)pdpt);
    write_cr0(read_cr0() | CR0_PG);
    user_base = 0x80000000;
    pae = true;
}

static void off(void)
{
    write_cr0(read_cr0() & ~CR0_PG);
    user_base = 0;
}

static void entry_set(u64 pde, u64 pte)
{
    if (pae) {
        directories[1][0] = pde & PS ? pde : (u32)table_pae | pde;
        table_pae[5] = pte;
    } else {
        directory[TEST >> 22] = pde & PS ? (u32)pde : (u32)table | (u32)pde;
        table[5] = (u32)pte;
    }
    flush();
}

static u64 pde_get(void)
{
    return pae ? directories[1][0] : directory[TEST >> 22];
}

static u64 pte_get(void)
{
    return pae ? table_pae[5] : table[5];
}

enum access { READ, WRITE, FETCH };

/* What the access must do; the error code, or -1 when it goes through. */
static int model(u64 pde, u64 pte, enum access access, bool user)
{
    bool large = pde & PS, wp = read_cr0() & CR0_WP;
    u64 both = large ? pde : pde & pte;
    int error = (user ? ERROR_U : 0) | (access == WRITE ? ERROR_W : 0);
    bool nxe = pae && efer_nxe;

    if (access == FETCH && nxe)
        error |= ERROR_I;
    if (!(pde & P))
        return error;
    if (pae && !nxe && (pde & NX))
        return error | ERROR_RSVD | (on_tcg() ? 0 : ERROR_P);
    if (!large && !(pte & P))
        return error;
    if (pae && !nxe && !large && (pte & NX))
        return error | ERROR_RSVD | (on_tcg() ? 0 : ERROR_P);
    if (pae && access == FETCH && ((pde | (large ? 0 : pte)) & NX))
        return error | ERROR_P;
    if (user && !(both & U))
        return error | ERROR_P;
    if (access == WRITE && !(both & W) && (user || wp))
        return error | ERROR_P;
    return -1;
}

static void attempt(u64 pde, u64 pte, enum access access, bool user)
{
    struct regs r = user ? regs_user() : regs_kernel();
    struct code code = access == READ ? CODE("mov al, [ebx]") : CODE("mov [ebx], al");
    int expected = model(pde, pte, access, user);
    static unsigned said;
    bool ok;

    entry_set(pde, pte);
    r.bx = TEST + 0x5123;
    r.ip = access == FETCH ? TEST + 0x5000 : (u32)code.start + (user ? user_base : 0);
    regs_run(&r);
    if (expected < 0)
        ok = r.vector == VECTOR_END && (pde_get() & A) && ((pde & PS) || (pte_get() & A)) &&
             !!((pde & PS ? pde_get() : pte_get()) & D) == (access == WRITE);
    else
        ok = r.vector == PF && r.error == (ulong)expected &&
             r.cr2 == (access == FETCH ? TEST + 0x5000u : TEST + 0x5123u);
    if (!check("access", ok) && said++ < 8)
        print("     %s %s pde %llx pte %llx: vector %d error %lx cr2 %lx, expected error %d\n",
              user ? "user" : "kernel",
              access == READ    ? "read"
              : access == WRITE ? "write"
                                : "fetch",
              pde, pte, (int)r.vector, r.error, r.cr2, expected);
}

static void permissions(void)
{
    for (unsigned n = 0; n < 256; n++) {
        u64 pde = (n & 1 ? P : 0) | (n & 2 ? W : 0) | (n & 4 ? U : 0);
        u64 pte = (n & 8 ? P : 0) | (n & 16 ? W : 0) | (n & 32 ? U : 0);

        if (pae) {
            pde |= n & 64 ? NX : 0;
            pte |= n & 128 ? NX : 0;
        } else if (n >= 64) {
            break;
        }
        for (unsigned how = 0; how < 6; how++) {
            attempt(pde, pte | PHYSICAL, how / 2, how & 1);
            if (!(n & 0xb8))
                attempt(pde | PS | PHYSICAL, 0, how / 2, how & 1);
        }
    }
}

static void expect_read(const char *name, u32 va, u32 value)
{
    struct regs r = regs_kernel();

    r.bx = va;
    if (expect_done(name, &r, CODE("mov eax, [ebx]")))
        check_equal(name, r.ax, value);
}

static void legacy_special(void)
{
    struct regs r;
    u32 error = ERROR_RSVD | (on_tcg() ? 0 : ERROR_P);

    *(volatile u32 *)(PHYSICAL + 0x5040) = 0x1234567;
    entry_set(PHYSICAL | PS | P | W, 0);
    expect_read("4 MiB page", TEST + 0x5040, 0x1234567);
    entry_set(PHYSICAL | 0x1000 | PS | P | W, 0);
    expect_read("PAT bit of a 4 MiB page", TEST + 0x5040, 0x1234567);
    entry_set(PHYSICAL | 0x200000 | PS | P | W, 0);
    r = regs_kernel();
    r.bx = TEST;
    expect_fault("bit 21 of a 4 MiB page is reserved", &r, CODE("mov al, [ebx]"), PF, error);
    /* without PSE the bit means nothing: a table of small pages */
    off();
    write_cr4(read_cr4() & ~CR4_PSE);
    for (u32 i = 0; i < 1024; i++)
        table[i] = i << 12 | P | W;
    directory[0] = (u32)table | P | W | PS;
    write_cr3((u32)directory);
    write_cr0(read_cr0() | CR0_PG);
    expect_read("PS without CR4.PSE is ignored", 0x100000, *(volatile u32 *)0x100000);
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(read_cr4() | CR4_PSE);
    for (u32 i = 0; i < 1024; i++)
        table[i] = 0;
}

static unsigned cr3_load(void)
{
    return write_cr3_safe((u32)pdpt);
}

static void pae_special(void)
{
    unsigned width = cpuid(0x80000008, 0).a & 0xff;
    struct regs r;
    u64 saved = pdpt[1];

    pdpt[1] = 0;
    if (!skip_tcg("registers of the top level", "QEMU reads the table anew"))
        expect_read("the registers of the top level keep the old value", TEST + 0x5040,
                    0x1234567);
    check_equal("CR3 loads them", cr3_load(), VECTOR_END);
    r = regs_kernel();
    r.bx = TEST;
    expect_fault("top level absent", &r, CODE("mov al, [ebx]"), PF, 0);
    pdpt[1] = saved;
    check_equal("present again", cr3_load(), VECTOR_END);
    if (!skip_tcg("reserved bits of the top level", "QEMU does not check them at MOV CR3")) {
        pdpt[1] = saved | W;
        check_equal("W in the top level: #GP by MOV CR3", cr3_load(), GP);
        pdpt[1] = saved | U;
        check_equal("U in the top level", cr3_load(), GP);
        if (width < 52) {
            pdpt[1] = saved | BIT(width);
            check_equal("address too wide", cr3_load(), GP);
        }
        pdpt[1] = saved | NX;
        check_equal("NX in the top level", cr3_load(), GP);
        pdpt[1] = (saved & ~1ull) | W | U;
        check_equal("not present: not checked", cr3_load(), VECTOR_END);
    }
    pdpt[1] = saved;
    check_equal("all well again", cr3_load(), VECTOR_END);
    entry_set(P | W, PHYSICAL | BIT(51) | P | W);
    r = regs_kernel();
    r.bx = TEST + 0x5000;
    if (width < 52)
        expect_fault("PTE address too wide", &r, CODE("mov al, [ebx]"), PF,
                     ERROR_RSVD | (on_tcg() ? 0 : ERROR_P));
    entry_set(P | W, PHYSICAL | P | W | BIT(53));
    r = regs_kernel();
    r.bx = TEST + 0x5000;
    if (!on_tcg())
        expect_fault("bit 53 is reserved in PAE", &r, CODE("mov al, [ebx]"), PF,
                     ERROR_RSVD | ERROR_P);
    entry_set(PHYSICAL | 0x100000 | PS | P | W, 0);
    r = regs_kernel();
    r.bx = TEST;
    expect_fault("bit 20 of a 2 MiB page", &r, CODE("mov al, [ebx]"), PF,
                 ERROR_RSVD | (on_tcg() ? 0 : ERROR_P));
}

/* Physical memory through different tables after the mode was changed. */
static void switching(void)
{
    for (unsigned round = 0; round < 10; round++) {
        *(volatile u32 *)(PHYSICAL + 0x5040) = round;
        legacy_on();
        entry_set(PHYSICAL | PS | P | W, 0);
        expect_read("two levels", TEST + 0x5040, round);
        off();
        pae_on();
        entry_set(P | W, (PHYSICAL + 0x5000) | P | W);
        expect_read("three levels", TEST + 0x5040, round);
        off();
    }
}

static void global_pages(void)
{
    volatile u32 *p = (volatile u32 *)(TEST + 0x5000);

    write_cr4(read_cr4() | CR4_PGE);
    *(volatile u32 *)PHYSICAL = 1;
    *(volatile u32 *)(PHYSICAL + 0x1000) = 2;
    entry_set(P | W, PHYSICAL | P | W | G);
    invlpg((void *)p);
    check_equal("global page", *p, 1);
    table_pae[5] = (PHYSICAL + 0x1000) | P | W | G;
    invlpg((void *)p);
    check_equal("INVLPG of a global page", *p, 2);
    table_pae[5] = PHYSICAL | P | W | G;
    write_cr4(read_cr4() & ~CR4_PGE);
    check_equal("CR4.PGE off", *p, 1);
}

void test(void)
{
    *(volatile u16 *)PHYSICAL = 0x40cd;
    *(volatile u16 *)(PHYSICAL + 0x5000) = 0x40cd;
    for (unsigned wp = 0; wp < 2; wp++) {
        write_cr0(wp ? read_cr0() | CR0_WP : read_cr0() & ~CR0_WP);
        legacy_on();
        permissions();
        off();
        for (efer_nxe = 0; efer_nxe < 2; efer_nxe++) {
            wrmsr(MSR_EFER, efer_nxe ? EFER_NXE : 0);
            pae_on();
            permissions();
            off();
        }
        efer_nxe = 1;
    }
    legacy_on();
    legacy_special();
    pae_on();
    entry_set(P | W, (PHYSICAL + 0x5000) | P | W);
    pae_special();
    global_pages();
    off();
    switching();
}
