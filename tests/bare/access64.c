/*
 * Every combination of page permissions with every kind of access, against a model of SDM
 * 3A 4.6 and 4.7: the outcome, the error code, CR2, and the accessed and dirty bits.
 */
#include "lib/page.h"
#include "lib/system.h"

enum access { READ, WRITE, FETCH, ACCESSES };

/* What of the processor's state matters. */
enum { CPU_WP = 1, CPU_NXE = 2, CPU_SMEP = 4, CPU_SMAP = 8, CPU_AC = 16, CPU_STATES = 32 };

struct attempt {
    unsigned cpu;
    enum access access;
    bool user;
    bool large;
    u64 pde, pte; /* flags only */
};

struct outcome {
    bool fault;
    ulong error;
    u64 pde, pte; /* expected flags afterwards */
    u64 pde_open; /* bits of the PDE that may be either way */
};

static ulong target;
static u64 frame;
static unsigned supported = CPU_WP;

static bool reserved(const struct attempt *a, u64 entry)
{
    return (entry & PTE_NX) && !(a->cpu & CPU_NXE);
}

static ulong error_code(const struct attempt *a)
{
    ulong error = (a->user ? PF_U : 0) | (a->access == WRITE ? PF_W : 0);

    if (a->access == FETCH && (a->cpu & (CPU_NXE | CPU_SMEP)))
        error |= PF_I;
    return error;
}

static bool denied(const struct attempt *a)
{
    u64 leaf = a->large ? a->pde : a->pte;
    bool user_page = a->pde & leaf & PTE_U;
    bool writable = a->pde & leaf & PTE_W;
    bool nx = (a->pde | leaf) & PTE_NX;

    if (a->access == FETCH && nx)
        return true;
    if (a->user)
        return !user_page || (a->access == WRITE && !writable);
    if (a->access == WRITE && !writable && (a->cpu & CPU_WP))
        return true;
    if (a->access == FETCH)
        return user_page && (a->cpu & CPU_SMEP);
    return user_page && (a->cpu & CPU_SMAP) && !(a->cpu & CPU_AC);
}

static struct outcome expected(const struct attempt *a)
{
    struct outcome o = {.error = error_code(a), .pde = a->pde, .pte = a->pte};

    if (!(a->pde & PTE_P)) {
        o.fault = true;
        return o;
    }
    if (reserved(a, a->pde)) {
        o.fault = true;
        o.error |= PF_RSVD | (on_tcg() ? 0 : PF_P);
        return o;
    }
    if (!a->large && !(a->pte & PTE_P)) {
        o.fault = true;
        o.pde_open = PTE_A;
        return o;
    }
    if (!a->large && reserved(a, a->pte)) {
        o.fault = true;
        o.error |= PF_RSVD | (on_tcg() ? 0 : PF_P);
        o.pde_open = PTE_A;
        return o;
    }
    if (denied(a)) {
        o.fault = true;
        o.error |= PF_P;
        o.pde_open = a->large ? 0 : PTE_A;
        return o;
    }
    o.pde |= PTE_A;
    if (!a->large)
        o.pte |= PTE_A;
    if (a->access == WRITE)
        *(a->large ? &o.pde : &o.pte) |= PTE_D;
    return o;
}

static struct regs run(const struct attempt *a, ulong *start)
{
    struct regs r = a->user ? regs_user() : regs_kernel();
    struct code code = a->access == READ ? CODE("mov al, [rbx]") : CODE("mov [rbx], al");

    *start = a->access == FETCH ? target : (ulong)code.start + (a->user ? USER_BASE : 0);
    r.ip = *start;
    r.bx = target + 0x123;
    r.cr2 = 0;
    if (a->cpu & CPU_AC)
        r.flags |= FLAG_AC;
    regs_run(&r);
    return r;
}

static void complain(const struct attempt *a, const struct outcome *o, const struct regs *r,
                     u64 pde, u64 pte)
{
    static unsigned said;

    if (said++ > 12)
        return;
    print("     %s %s %s: cpu%s%s%s%s%s, pde %llx, pte %llx%s\n", a->user ? "user" : "kernel",
          a->access == READ    ? "read"
          : a->access == WRITE ? "write"
                               : "fetch",
          o->fault ? "must fault" : "must pass", a->cpu & CPU_WP ? " wp" : "",
          a->cpu & CPU_NXE ? " nxe" : "", a->cpu & CPU_SMEP ? " smep" : "",
          a->cpu & CPU_SMAP ? " smap" : "", a->cpu & CPU_AC ? " ac" : "", a->pde, a->pte,
          a->large ? " (2 MiB)" : "");
    print("     got vector %d error %lx cr2 %lx pde %llx pte %llx, expected %lx %llx %llx\n",
          (int)r->vector, r->error, r->cr2, pde, pte, o->error, o->pde, o->pte);
}

static void attempt(const struct attempt *a)
{
    volatile u64 *pde = page_entry(target, 2), *pte = a->large ? NULL : page_entry(target, 1);
    struct outcome o = expected(a);
    u64 table = *pde & PTE_ADDR, pde_after, pte_after;
    struct regs r;
    ulong start;
    bool ok;

    write_cr0(a->cpu & CPU_WP ? read_cr0() | CR0_WP : read_cr0() & ~CR0_WP);
    *pde = (a->large ? (frame & ~0x1fffffull) | PTE_PS : table) | a->pde;
    if (!a->large)
        *pte = frame | a->pte;
    invlpg((void *)target);
    r = run(a, &start);
    pde_after = *pde & ~(PTE_ADDR | PTE_PS);
    pte_after = a->large ? a->pte : *pte & ~PTE_ADDR;
    *pde = table | PTE_P | PTE_W | PTE_U;
    if (o.fault)
        ok = r.vector == PF && r.error == o.error && r.ip == start &&
             r.cr2 == (a->access == FETCH ? target : target + 0x123);
    else
        ok = r.vector == VECTOR_END;
    ok = ok && (pde_after & ~o.pde_open) == (o.pde & ~o.pde_open) && pte_after == o.pte;
    if (!check("access", ok))
        complain(a, &o, &r, pde_after, pte_after);
}

static void processor_state(unsigned cpu)
{
    u64 efer = rdmsr(MSR_EFER) & ~EFER_NXE;
    ulong cr4 = read_cr4() & ~(CR4_SMEP | CR4_SMAP);

    wrmsr(MSR_EFER, efer | (cpu & CPU_NXE ? EFER_NXE : 0));
    write_cr4(cr4 | (cpu & CPU_SMEP ? CR4_SMEP : 0) | (cpu & CPU_SMAP ? CR4_SMAP : 0));
}

static void entries(struct attempt *a)
{
    static const u64 pdes[] = {
        0,
        PTE_P,
        PTE_P | PTE_W,
        PTE_P | PTE_U,
        PTE_P | PTE_W | PTE_U,
        PTE_P | PTE_W | PTE_U | PTE_NX,
        PTE_W | PTE_U,
        PTE_P | PTE_W | PTE_U | PTE_A,
    };

    for (unsigned i = 0; i < COUNT(pdes); i++) {
        a->pde = pdes[i];
        a->large = true;
        a->pte = 0;
        attempt(a);
        a->large = false;
        for (unsigned j = 0; j < 64; j++) {
            a->pte = (j & 1 ? PTE_P : 0) | (j & 2 ? PTE_W : 0) | (j & 4 ? PTE_U : 0) |
                     (j & 8 ? PTE_NX : 0) | (j & 16 ? PTE_A : 0) | (j & 32 ? PTE_D : 0);
            if ((a->pte & PTE_D) && !(a->pte & PTE_A))
                continue;
            attempt(a);
        }
    }
}

void test(void)
{
    struct cpuid seven = cpuid(7, 0);

    supported |= cpuid(0x80000001, 0).d & BIT(20) ? CPU_NXE : 0;
    supported |= seven.b & BIT(7) ? CPU_SMEP : 0;
    supported |= seven.b & BIT(20) ? CPU_SMAP | CPU_AC : 0;
    target = PAGE_TEST + 0x5000;
    frame = 32 << 20;
    *(volatile u16 *)(frame + 0) = 0x40cd;      /* int 0x40 for 4 KiB pages */
    *(volatile u16 *)(frame + 0x5000) = 0x40cd; /* and where the large page has it */
    for (unsigned cpu = 0; cpu < CPU_STATES; cpu++) {
        if (cpu & ~supported)
            continue;
        processor_state(cpu);
        for (unsigned n = 0; n < 2 * ACCESSES; n++) {
            struct attempt a = {.cpu = cpu, .access = n / 2, .user = n & 1};

            entries(&a);
        }
    }
    processor_state(CPU_NXE);
}
