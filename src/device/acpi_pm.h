/*
 * The fixed hardware of ACPI (ACPI specification 6.4, 4.8.3): PM1a event and control blocks,
 * the power management timer, one general-purpose event block.
 *
 * For the FADT: SMI_CMD 0, for SCI_EN is always set (the machine is in ACPI mode from the
 * start); PM1a_EVT_BLK, PM1a_CNT_BLK, PM_TMR_BLK, GPE0_BLK as below, with the lengths below;
 * TMR_VAL_EXT set (32-bit timer); power button fixed (PWR_BUTTON 0), SLP_BUTTON 1 (none).
 * The DSDT's \_S3 and \_S5 give the types below as their first values. A kernel that wakes
 * finds every device reset, as after S3 on a PC, and sets it up again.
 */
#pragma once

#include "platform/board.h"
#include "platform/irq.h"

#define ACPI_PM_BASE     0x600               /* where they are to begin with */
#define ACPI_PM1_EVT     (ACPI_PM_BASE + 0)  /* 4 bytes: status, enable */
#define ACPI_PM1_CNT     (ACPI_PM_BASE + 4)  /* 2 bytes */
#define ACPI_PM_TMR      (ACPI_PM_BASE + 8)  /* 4 bytes */
#define ACPI_GPE0        (ACPI_PM_BASE + 12) /* 4 bytes: 16 status bits, 16 enable bits */
#define ACPI_SLP_TYP_S5  0 /* PIIX4's SUS_TYP of soft off: firmware does not read the DSDT */
#define ACPI_SLP_TYP_S3  1 /* suspend to RAM */
#define ACPI_PM_TIMER_HZ 3579545
#define ACPI_SCI_IRQ     9

struct acpi_pm;

/* `sci`: the system control interrupt, level-triggered, ACPI_SCI_IRQ. */
struct acpi_pm *acpi_pm_create(struct board *board, struct irq_line sci);

/* Moves the registers, as they lie from ACPI_PM_BASE on, to port `base`; 0: to nowhere. */
void acpi_pm_place(struct acpi_pm *pm, u16 base);
u16 acpi_pm_base(const struct acpi_pm *pm);

/* RTC_STS follows the rise of the RTC's interrupt (the wire that goes here beside the one to
 * the interrupt controllers). */
struct irq_line acpi_pm_rtc_line(struct acpi_pm *pm);
/* The machine sleeps in S3: the next enabled event, or one that is there, asks BOARD_WAKE. */
void acpi_pm_slept(struct acpi_pm *pm);
/* It is up again: WAK_STS. */
void acpi_pm_woken(struct acpi_pm *pm);
/* Somebody presses the power button: PWRBTN_STS. */
void acpi_pm_power_button(struct acpi_pm *pm);
/* A general-purpose event, 0..15: its status bit is set. */
void acpi_pm_gpe(struct acpi_pm *pm, unsigned n);
