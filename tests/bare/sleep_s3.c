/*
 * ACPI S3: memory survives, the RTC's alarm wakes, and the first processor starts in real mode
 * where the FACS says.
 */
#include "lib/acpi.h"
#include "lib/check.h"
#include "lib/cmos.h"
#include "lib/pit.h"

enum { RTC_STATUS = 0x400, SLEEP_S3 = 0x2400, ALARM = 0x20 };
#define WAKE   0x5230u /* so that CS and IP both say where */
#define MARKER 0x5400u /* where the woken code looks whether memory survived */

/* Ends through the debug exit: 16, a pass, if the marker is there, CS is right and the
 * processor is in real mode. */
asm(".pushsection .code, \"ax\"\n.code16\n.intel_syntax noprefix\n"
    "wake: xor ebx, ebx; mov ds, bx; mov eax, 17\n"
    "mov cx, cs; cmp cx, 0x523; jne 1f\n"
    "cmp dword ptr ds:[0x5400], 0x600df00d; jne 1f\n"
    "mov ecx, cr0; test cl, 1; jnz 1f\n"
    "mov al, 16\n"
    "1: mov dx, 0xf4; out dx, eax\n"
    "2: hlt; jmp 2b\n"
    "wake_end:\n.code64\n.att_syntax prefix\n.popsection");
extern const u8 wake[], wake_end[];

static void set_alarm(void)
{
    while (cmos_read(0x0a) & 0x80) /* an update is in progress */
        cpu_relax();
    cmos_read(0x0c);
    cmos_write(1, 0xc0); /* any second, minute, hour: the next second */
    cmos_write(3, 0xc0);
    cmos_write(5, 0xc0);
    cmos_write(0x0b, cmos_read(0x0b) | ALARM);
}

void test(void)
{
    const struct acpi_fadt *fadt = (const struct acpi_fadt *)acpi_table("FACP");
    volatile u32 *facs;

    if (!check("FADT", fadt) || !check("FACS", fadt->facs))
        check_done();
    facs = (volatile u32 *)(ulong)fadt->facs;
    check_equal("its signature", facs[0], 0x53434146); /* "FACS" */
    check("its length", facs[1] >= 64);
    check_equal("its alignment", fadt->facs & 63, 0);
    for (u32 i = 0; wake + i < wake_end; i++)
        ((volatile u8 *)(ulong)WAKE)[i] = wake[i];
    facs[3] = WAKE;
    check_equal("the waking vector stays", facs[3], WAKE);
    *(volatile u32 *)(ulong)MARKER = 0x600df00d;
    outw((u16)(fadt->pm1a_event + 2), RTC_STATUS); /* enabled */
    set_alarm();
    outw((u16)fadt->pm1a_control, SLEEP_S3);
    *(volatile u32 *)(ulong)MARKER = 0; /* asleep, this is not reached */
    pit_wait_us(3000000);
    check("it slept", false);
    check_done();
}
