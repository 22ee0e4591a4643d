/*
 * The ACPI tables, the PM timer, and power off: the way of an operating system, by what the
 * FADT and the S5 package of the DSDT say.
 */
#include "lib/acpi.h"
#include "lib/ends.h"
#include "lib/system.h"

enum { SCI_ENABLE = 1, SLEEP_ENABLE = 1 << 13, PM_TIMER_HZ = 3579545 };

static u32 timer(const struct acpi_fadt *fadt)
{
    return inl(fadt->pm_timer) & 0xffffff;
}

static void pm_timer(const struct acpi_fadt *fadt)
{
    u32 before = timer(fadt), after, ticks;

    for (unsigned i = 0; i < 1000; i++) {
        after = timer(fadt);
        if (((after - before) & 0xffffff) > 0x800000) {
            check("the PM timer goes forward", false);
            break;
        }
        before = after;
    }
    before = timer(fadt);
    pit_wait_us(20000);
    ticks = (timer(fadt) - before) & 0xffffff;
    check("20 ms by the PM timer are not less than by the 8254",
          ticks >= PM_TIMER_HZ / 1000 * 19);
}

static void madt(u32 processors)
{
    const struct acpi_header *table = acpi_table("APIC");
    const u8 *p, *end;
    u32 found = 0, ioapics = 0;

    if (!check("MADT", table))
        return;
    check_equal("local APIC address", *(const u32 *)(table + 1), 0xfee00000);
    end = (const u8 *)table + table->length;
    for (p = (const u8 *)(table + 1) + 8; p + 2 <= end && p[1]; p += p[1]) {
        found += p[0] == 0 && (p[4] & 1);
        ioapics += p[0] == 1;
    }
    check_equal("the MADT ends with its last entry", (ulong)p, (ulong)end);
    check_equal("processors", found, processors);
    check_equal("IOAPICs", ioapics, 1);
}

void test(void)
{
    const struct acpi_fadt *fadt = (const struct acpi_fadt *)acpi_table("FACP");
    int s5;

    if (!check("FADT", fadt))
        check_done();
    check("checksum of the DSDT",
          acpi_sum_ok((void *)(ulong)fadt->dsdt, *(u32 *)((ulong)fadt->dsdt + 4)));
    check_equal("PM1 control length", fadt->pm1_control_length, 2);
    check("PM1a control block", fadt->pm1a_control);
    check("PM timer", fadt->pm_timer && fadt->pm_timer_length == 4);
    madt(1);
    pm_timer(fadt);
    s5 = acpi_s5(fadt);
    if (!check("S5 in the DSDT", s5 >= 0))
        check_done();
    if (fadt->smi_command && fadt->acpi_enable && !(inw(fadt->pm1a_control) & SCI_ENABLE)) {
        outb(fadt->smi_command, fadt->acpi_enable);
        pit_wait_us(10000);
    }
    check_equal("ACPI mode", inw(fadt->pm1a_control) & SCI_ENABLE, SCI_ENABLE);
    ends("power off");
    outw(fadt->pm1a_control, s5 << 10 | SLEEP_ENABLE | SCI_ENABLE);
    ends_not();
}
