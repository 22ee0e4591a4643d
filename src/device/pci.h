/*
 * PCI devices (PCI Local Bus Specification 3.0): configuration space with type 0 header, BARs,
 * capabilities, INTx and MSI-X; and the host bridge with configuration mechanism 1.
 *
 * A device embeds a struct pci_device and builds it in this order: pci_init, pci_add_bar,
 * pci_add_rom, pci_add_capability, pci_add_msix, then pci_plug, after which its read-only
 * values are fixed. One with an INTA# pin sets config[PCI_INTERRUPT_PIN] to 1 before it plugs.
 * It is saved as a device of its own ("pci"), apart from the fields of the device that embeds
 * it.
 *
 * Everything here is called under the board lock (or before the machine runs).
 */
#pragma once

#include "device/pam.h"
#include "platform/board.h"
#include "platform/device.h"
#include "platform/irq.h"

struct apic_bus;
struct gsi;
struct pci_host;
struct pci_device;

/* Configuration registers. */
enum pci_register {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09, /* 3 bytes: interface, subclass, base class */
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_ROM = 0x30,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};

#define PCI_COMMAND_IO     BIT(0)
#define PCI_COMMAND_MEMORY BIT(1)
#define PCI_COMMAND_MASTER BIT(2)
#define PCI_COMMAND_NO_INT BIT(10)

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

#define PCI_BARS          6
#define PCI_ROM_BAR       PCI_BARS /* the expansion ROM, beside them */
#define PCI_MSIX_VECTORS  64       /* most of one device */
#define PCI_SLOTS         32
#define PCI_FUNCTIONS     8    /* of a slot */
#define PCI_ISA_SLOT      1    /* the ISA bridge, whose further functions are PIIX3's */
#define PCI_MULTIFUNCTION 0x80 /* in the header type */

/* The windows that a host bridge's _CRS gives and pci_host_assign fills. */
#define PCI_MMIO_BASE 0xe0000000ull
#define PCI_MMIO_END  0xfec00000ull
#define PCI_IO_BASE   0xc000u
#define PCI_IO_END    0x10000u

enum pci_bar_kind { PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
    u64 size; /* 0: not there; a power of two, at least 4 (I/O) or 16 */
    enum pci_bar_kind kind;
    bool prefetchable;
    bool mapped;
    struct bus_region region; /* ops, opaque and max_size are the device's */
};

struct pci_ids {
    u16 vendor, device;
    u16 subsystem_vendor, subsystem;
    u32 class; /* base class << 16 | subclass << 8 | interface */
    u8 revision;
};

struct pci_ops {
    /* Before a read and after a write of configuration bytes `offset`..`offset` + `size` - 1
     * that no standard register holds: the device may change config[]. May be NULL. */
    void (*config_read)(void *opaque, unsigned offset, unsigned size);
    void (*config_written)(void *opaque, unsigned offset, unsigned size);
    /* config[] was loaded. May be NULL. */
    void (*config_loaded)(void *opaque);
    /* BAR `n` begins or ends to answer at `addr`. May be NULL. */
    void (*bar_moved)(void *opaque, unsigned n, u64 addr, bool answers);
};

struct pci_msix {
    unsigned vectors; /* 0: no MSI-X */
    u8 capability;    /* offset in config[] */
    u8 bar;
    u8 table[PCI_MSIX_VECTORS][16];
    u64 pending;
};

struct pci_device {
    struct device device;
    const char *name;
    const struct pci_ops *ops;
    void *opaque;
    struct pci_host *host;
    u8 devfn; /* slot << 3 | function */
    u8 config[256];
    u8 writable[256];    /* bits the guest can write */
    u8 clearable[256];   /* bits that a written one clears */
    u8 initial[256];     /* config[] at reset */
    u16 next_capability; /* where pci_add_capability goes on */
    struct pci_bar bar[PCI_BARS + 1];
    const u8 *rom; /* of PCI_ROM_BAR */
    u32 rom_size;
    struct pci_msix msix;
    bool intx; /* the device asserts INTA# */
};

/* -- A device ------------------------------------------------------------------------------ */

void pci_init(struct pci_device *pci, const char *name, const struct pci_ids *ids,
              const struct pci_ops *ops, void *opaque);

/* BAR `n`; a PCI_BAR_MEM64 takes `n` and `n` + 1. `max_size` as in struct bus_region. */
void pci_add_bar(struct pci_device *pci, unsigned n, enum pci_bar_kind kind, u64 size,
                 const struct bus_ops *ops, void *opaque, unsigned max_size);

/* An expansion ROM (6.2.5.2): `image`, which must outlive the device, in a BAR that is large
 * enough. */
void pci_add_rom(struct pci_device *pci, const void *image, u32 size);

/* Links a capability of `len` bytes into the list; returns its offset in config[]. The device
 * fills in what follows the two header bytes, and writable[]. */
u8 pci_add_capability(struct pci_device *pci, u8 id, unsigned len);

/* MSI-X with table and pending bits in a BAR of its own (4 KiB). */
void pci_add_msix(struct pci_device *pci, unsigned bar, unsigned vectors);

/* Plugs the device into `slot` of the host bridge, or the first free one for -1; function 0.
 * False: no such slot, or it is taken. Fixes the read-only configuration. */
bool pci_plug(struct pci_host *host, struct pci_device *pci, int slot);
/* The first slot that is free, or -1. */
int pci_host_free_slot(const struct pci_host *host);
/* A further function of a slot, whose function 0 says in its header type that there are
 * some. */
bool pci_plug_function(struct pci_host *host, struct pci_device *pci, unsigned slot,
                       unsigned function);
void pci_unplug(struct pci_device *pci);

/* The INTA# wire: a level, shown in the status register and gated by the command register. */
void pci_set_intx(struct pci_device *pci, bool level);

/* Whether MSI-X is what the device must use; and an interrupt by it. Vectors beyond the table
 * (FFFFh: none) vanish. */
bool pci_msix_enabled(const struct pci_device *pci);
void pci_msix_notify(struct pci_device *pci, unsigned vector);

/* Whether the guest lets the device read and write memory. */
bool pci_bus_master(const struct pci_device *pci);

/* Little-endian registers in config[]. */
u16 pci_get16(const struct pci_device *pci, unsigned offset);
u32 pci_get32(const struct pci_device *pci, unsigned offset);
void pci_set16(struct pci_device *pci, unsigned offset, u16 value);
void pci_set32(struct pci_device *pci, unsigned offset, u32 value);

/* For pci_host.c and pci_msix.c. */
u32 pci_config_read(struct pci_device *pci, unsigned offset, unsigned size);
void pci_config_write(struct pci_device *pci, unsigned offset, unsigned size, u32 value);
void pci_enter(struct pci_host *host, struct pci_device *pci); /* sets initial[], registers */
void pci_msix_update(struct pci_device *pci);
void pci_msix_reset(struct pci_device *pci);

/* -- The host bridge ----------------------------------------------------------------------- */

/*
 * An i440FX-like bus 0: host bridge 00:00.0 (8086:1237) and ISA bridge 00:01.0 (8086:7000,
 * PIIX3) with its PIRQ route control registers 60h..63h. Ports CF8h and CFCh..CFFh.
 *
 * INTx of slot s, pin p (0 = A) is PIRQ (s - 1 + p) & 3. PIRQs A and B start out at IRQ 10, C
 * and D at IRQ 11, level-triggered (a PIIX3 starts with none and waits for firmware, which a
 * direct kernel start has not); both the 8259 and the IOAPIC pin of that number get it. MADT
 * and _PRT should say IRQ 10 and 11, level, active high. Where no firmware starts, the machine
 * calls pic_set_elcr for them (and the SCI), too.
 */
struct pci_host *pci_host_create(struct board *board, struct gsi *gsi, struct apic_bus *bus);

struct board *pci_host_board(const struct pci_host *host);
/* What is plugged in there, or NULL. */
const struct pci_device *pci_host_device(const struct pci_host *host, unsigned slot,
                                         unsigned function);

/* The ISA IRQ that `pin` (0..3) of `slot` is routed to now, or -1. */
int pci_host_irq(const struct pci_host *host, unsigned slot, unsigned pin);

/* Gives every BAR an address in the windows above and enables decoding, as firmware would, and
 * writes the interrupt line registers. After each reset, where no firmware starts. */
void pci_host_assign(struct pci_host *host);

/* C0000h..FFFFFh at reset: firmware below 4 GiB shows there (PAM0..PAM6 zero), or RAM as
 * firmware would leave it. After each reset. */
void pci_host_shadow(struct pci_host *host, bool firmware);

/* What shows there now, so that a reset which keeps memory can put it back. */
struct pci_shadow {
    u8 pam[PAM_REGISTERS];
};
struct pci_shadow pci_host_shadowed(const struct pci_host *host);
void pci_host_shadow_again(struct pci_host *host, struct pci_shadow shadow);

/* For pci.c: a device's INTx changed; an MSI is to be sent. */
void pci_host_update_intx(struct pci_host *host);
void pci_host_msi(struct pci_host *host, u64 addr, u32 data);
