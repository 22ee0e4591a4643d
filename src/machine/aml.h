/*
 * A small assembler for AML, the byte code of ACPI tables (ACPI 6.4, chapter 20): as much of it
 * as a PC's DSDT needs. Blocks nest: each aml_*_begin returns a mark that aml_end takes.
 *
 * Output goes to a caller's buffer; one that is too small is remembered in `overflow`, and the
 * caller checks once.
 */
#pragma once

#include "base/types.h"

struct aml {
    u8 *data;
    size_t size, capacity;
    bool overflow;
};

/* Names are paths of four-letter segments, "\\_SB_" or "PCI0"; at most two segments. */
size_t aml_scope_begin(struct aml *aml, const char *name);
size_t aml_device_begin(struct aml *aml, const char *name);
size_t aml_package_begin(struct aml *aml, u8 elements);
void aml_end(struct aml *aml, size_t mark);

/* Name (name, ...): what follows is the value. */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, u64 value);
void aml_name_integer(struct aml *aml, const char *name, u64 value);
/* An EISA id such as "PNP0A03", or any other id as a string. */
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);
void aml_name_string(struct aml *aml, const char *name, const char *text);

/* Resource templates (6.4): the descriptors between begin and end. */
struct aml_resources {
    size_t mark;
    size_t size_at;
};
struct aml_resources aml_resources_begin(struct aml *aml, const char *name);
void aml_resources_end(struct aml *aml, struct aml_resources resources);

/* Fixed ports that the device decodes. */
void aml_io(struct aml *aml, u16 base, u8 length);
/* An ISA interrupt, edge-triggered and active high. */
void aml_irq(struct aml *aml, unsigned irq);
/* Windows that a bridge forwards, both ends included. */
void aml_window_bus(struct aml *aml, u16 first, u16 last);
void aml_window_io(struct aml *aml, u16 first, u16 last);
void aml_window_memory(struct aml *aml, u32 first, u32 last);
