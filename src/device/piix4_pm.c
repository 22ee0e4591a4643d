/* Where ACPI's registers are, see piix4_pm.h. */
#include "device/piix4_pm.h"

#include <stdlib.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "platform/device.h"

#define FUNCTION 3

#define PMBA         0x40
#define PMBA_IO      BIT(0)
#define PMBA_ADDRESS 0xffc0
#define DEVACTB      0x58
#define APMC_EN      BIT(25)
#define PMREGMISC    0x80
#define PMIOSE       BIT(0)

struct piix4_pm {
    struct device device;
    struct pci_device pci;
    struct acpi_pm *pm;
    void (*moved)(void *opaque);
    void *opaque;
};

static void piix4_pm_apply(void *opaque)
{
    struct piix4_pm *piix4 = opaque;
    bool on = piix4->pci.config[PMREGMISC] & PMIOSE;
    u16 base = on ? pci_get16(&piix4->pci, PMBA) & PMBA_ADDRESS : 0;
    if (base == acpi_pm_base(piix4->pm))
        return;
    acpi_pm_place(piix4->pm, base);
    if (base && piix4->moved)
        piix4->moved(piix4->opaque);
}

static void piix4_pm_written(void *opaque, unsigned offset, unsigned size)
{
    piix4_pm_apply(opaque);
}

static const struct pci_ops piix4_pm_pci_ops = {.config_written = piix4_pm_written,
                                                .config_loaded = piix4_pm_apply};

void piix4_pm_start(struct piix4_pm *piix4, bool firmware)
{
    if (!firmware) {
        pci_set16(&piix4->pci, PMBA, ACPI_PM_BASE | PMBA_IO);
        piix4->pci.config[PMREGMISC] |= PMIOSE;
    }
    piix4_pm_apply(piix4);
}

void piix4_pm_watch(struct piix4_pm *piix4, void (*moved)(void *opaque), void *opaque)
{
    piix4->moved = moved;
    piix4->opaque = opaque;
}

static void piix4_pm_destroy(void *device)
{
    struct piix4_pm *piix4 = device;
    pci_unplug(&piix4->pci);
    free(piix4);
}

/* What there is to save is in the PCI function. */
static const struct device_class piix4_pm_class = {
    .name = "piix4-pm",
    .version = 1,
    .destroy = piix4_pm_destroy,
};

struct piix4_pm *piix4_pm_create(struct board *board, struct pci_host *host, struct acpi_pm *pm)
{
    static const struct pci_ids ids = {0x8086, 0x7113, 0x1af4, 0x1100, 0x068000, 3};
    struct piix4_pm *piix4 = calloc(1, sizeof(*piix4));
    ensure(piix4);
    piix4->pm = pm;
    struct pci_device *pci = &piix4->pci;
    pci_init(pci, "piix4-pm", &ids, &piix4_pm_pci_ops, piix4);
    pci_set32(pci, PMBA, PMBA_IO);
    pci->writable[PMBA] = PMBA_ADDRESS & 0xff;
    pci->writable[PMBA + 1] = PMBA_ADDRESS >> 8;
    pci->writable[PMREGMISC] = PMIOSE;
    pci_set32(pci, DEVACTB, APMC_EN);
    pci->config[PCI_INTERRUPT_PIN] = 1;
    device_add(board, &piix4->device, &piix4_pm_class, piix4);
    ensure(pci_plug_function(host, pci, PCI_ISA_SLOT, FUNCTION));
    return piix4;
}
