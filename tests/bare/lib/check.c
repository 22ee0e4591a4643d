/* The counters behind check.h. */
#include "check.h"
#include "cpu.h"

static u32 checks, failures;

bool check_at(const char *file, int line, const char *name, bool ok)
{
    checks++;
    if (!ok) {
        failures++;
        print("FAIL %s:%d: %s\n", file, line, name);
    }
    return ok;
}

bool check_equal_at(const char *file, int line, const char *name, u64 got, u64 expected)
{
    checks++;
    if (got != expected) {
        failures++;
        print("FAIL %s:%d: %s: got 0x%llx, expected 0x%llx\n", file, line, name, got, expected);
    }
    return got == expected;
}

void check_skip(const char *name, const char *reason)
{
    print("SKIP %s: %s\n", name, reason);
}

bool on_tcg(void)
{
    struct cpuid id = cpuid(0x40000000, 0);

    /* "TCGT" "CGTC" "GTCG" */
    return (cpuid(1, 0).c & BIT(31)) && id.b == 0x54474354 && id.c == 0x43544743 &&
           id.d == 0x47435447;
}

void check_done(void)
{
    print("%u checks, %u failed\n", checks, failures);
    machine_exit(failures || !checks ? EXIT_FAIL : EXIT_PASS);
}

bool skip_tcg(const char *name, const char *reason)
{
    if (!on_tcg())
        return false;
    check_skip(name, reason);
    return true;
}
