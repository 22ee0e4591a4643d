/* Running pieces of code and comparing how they end. */
#include "regs.h"
#include "system.h"

struct regs regs_kernel(void)
{
    struct regs r = {.cs = KCODE, .ss = KDATA, .ds = KDATA, .es = KDATA, .flags = 2};

    r.sp = stack_code() - 0x100;
    return r;
}

struct regs regs_user(void)
{
    struct regs r = {.cs = UCODE, .ss = UDATA, .ds = UDATA, .es = UDATA, .flags = 2};

    r.sp = stack_user() - 0x100 + USER_BASE;
    return r;
}

/* The base at which code of this privilege is seen. */
static ulong code_base(const struct regs *r)
{
    return !(r->flags & FLAG_VM) && (r->cs & 3) == 3 ? USER_BASE : 0;
}

static bool expect_end(const char *file, int line, const char *name, struct regs *r,
                       struct code code, const char *at, unsigned vector, ulong error)
{
    ulong base = code_base(r);
    ulong expected = (ulong)at + base;

    r->ip = (ulong)code.start + base;
    regs_run(r);
    if (r->vector != vector || r->error != error || r->ip != expected) {
        print("     %s: vector %d error 0x%lx at %lx, expected vector %d error 0x%lx at %lx\n",
              name, (int)r->vector, r->error, r->ip, (int)vector, error, expected);
        return check_at(file, line, name, false);
    }
    return check_at(file, line, name, true);
}

bool expect_done_at(const char *file, int line, const char *name, struct regs *r,
                    struct code code)
{
    return expect_end(file, line, name, r, code, code.end + 2, VECTOR_END, 0);
}

bool expect_fault_at(const char *file, int line, const char *name, struct regs *r,
                     struct code code, unsigned vector, ulong error)
{
    return expect_end(file, line, name, r, code, code.at, vector, error);
}

bool expect_trap_at(const char *file, int line, const char *name, struct regs *r,
                    struct code code, unsigned vector)
{
    return expect_end(file, line, name, r, code, code.end, vector, 0);
}

static unsigned run_kernel(struct regs *r, struct code code)
{
    r->ip = (ulong)code.start;
    regs_run(r);
    return r->vector;
}

unsigned rdmsr_safe(u32 msr, u64 *value)
{
    struct regs r = regs_kernel();

    r.cx = msr;
    run_kernel(&r, CODE("rdmsr"));
    *value = (u64)(u32)r.dx << 32 | (u32)r.ax;
    return r.vector;
}

unsigned wrmsr_safe(u32 msr, u64 value)
{
    struct regs r = regs_kernel();

    r.cx = msr;
    r.ax = (u32)value;
    r.dx = value >> 32;
    return run_kernel(&r, CODE("wrmsr"));
}

unsigned write_cr0_safe(ulong value)
{
    struct regs r = regs_kernel();

    r.ax = value;
#ifdef __x86_64__
    return run_kernel(&r, CODE("mov cr0, rax"));
#else
    return run_kernel(&r, CODE("mov cr0, eax"));
#endif
}

unsigned write_cr3_safe(ulong value)
{
    struct regs r = regs_kernel();

    r.ax = value;
#ifdef __x86_64__
    return run_kernel(&r, CODE("mov cr3, rax"));
#else
    return run_kernel(&r, CODE("mov cr3, eax"));
#endif
}

unsigned write_cr4_safe(ulong value)
{
    struct regs r = regs_kernel();

    r.ax = value;
#ifdef __x86_64__
    return run_kernel(&r, CODE("mov cr4, rax"));
#else
    return run_kernel(&r, CODE("mov cr4, eax"));
#endif
}
