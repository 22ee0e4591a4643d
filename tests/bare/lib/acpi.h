/* Finding the ACPI tables as an operating system without UEFI does. */
#pragma once
#include "types.h"

struct acpi_header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem[6], oem_table[8];
    u32 oem_revision, creator, creator_revision;
} __attribute__((packed));

/* The table of this signature, its checksum verified; NULL if there is none. */
const struct acpi_header *acpi_table(const char signature[4]);
bool acpi_sum_ok(const void *bytes, u32 length);

struct acpi_fadt {
    struct acpi_header header;
    u32 facs, dsdt;
    u8 reserved0, profile;
    u16 sci;
    u32 smi_command;
    u8 acpi_enable, acpi_disable, s4bios, pstate;
    u32 pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
    u8 pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
    u8 gpe0_length, gpe1_length, gpe1_base, cst;
    u16 c2_latency, c3_latency, flush_size, flush_stride;
    u8 duty_offset, duty_width, day_alarm, month_alarm, century;
    u16 boot_flags;
    u8 reserved1;
    u32 flags;
} __attribute__((packed));

/* Finds the S5 package in the DSDT: the value for SLP_TYPa; negative if it is not there. */
int acpi_s5(const struct acpi_fadt *fadt);
