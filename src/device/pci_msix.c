/* MSI-X (PCI Local Bus Specification 3.0, 6.8.2): table, pending bits, masking. */
#include <string.h>

#include "base/bits.h"
#include "base/ensure.h"
#include "device/pci.h"

#define CONTROL          2 /* offset of message control in the capability */
#define CONTROL_ENABLE   BIT(15)
#define CONTROL_MASK_ALL BIT(14)
#define ENTRY_CONTROL    12
#define ENTRY_MASKED     BIT(0)

#define BAR_SIZE   0x1000
#define PBA_OFFSET 0x800

static u16 pci_msix_control(const struct pci_device *pci)
{
    return pci_get16(pci, pci->msix.capability + CONTROL);
}

bool pci_msix_enabled(const struct pci_device *pci)
{
    return pci->msix.vectors && (pci_msix_control(pci) & CONTROL_ENABLE);
}

static bool pci_msix_masked(const struct pci_device *pci, unsigned vector)
{
    return (pci_msix_control(pci) & CONTROL_MASK_ALL) ||
           (pci->msix.table[vector][ENTRY_CONTROL] & ENTRY_MASKED);
}

static void pci_msix_send(struct pci_device *pci, unsigned vector)
{
    u64 addr;
    u32 data;
    memcpy(&addr, pci->msix.table[vector], sizeof(addr));
    memcpy(&data, pci->msix.table[vector] + sizeof(addr), sizeof(data));
    pci_host_msi(pci->host, addr, data);
}

void pci_msix_notify(struct pci_device *pci, unsigned vector)
{
    if (vector >= pci->msix.vectors || !pci_msix_enabled(pci))
        return;
    if (pci_msix_masked(pci, vector))
        pci->msix.pending |= BIT(vector);
    else
        pci_msix_send(pci, vector);
}

/* Something was unmasked, perhaps: sends what waited. */
void pci_msix_update(struct pci_device *pci)
{
    struct pci_msix *msix = &pci->msix;
    if (!pci_msix_enabled(pci))
        return;
    for (unsigned vector = 0; vector < msix->vectors; vector++) {
        if (!(msix->pending & BIT(vector)) || pci_msix_masked(pci, vector))
            continue;
        msix->pending &= ~BIT(vector);
        pci_msix_send(pci, vector);
    }
}

void pci_msix_reset(struct pci_device *pci)
{
    struct pci_msix *msix = &pci->msix;
    memset(msix->table, 0, sizeof(msix->table));
    for (unsigned vector = 0; vector < msix->vectors; vector++)
        msix->table[vector][ENTRY_CONTROL] = ENTRY_MASKED;
    msix->pending = 0;
}

static u64 pci_msix_read(void *opaque, u64 offset, unsigned size)
{
    const struct pci_device *pci = opaque;
    u64 value = 0;
    if (offset + size <= 16ull * pci->msix.vectors)
        memcpy(&value, &pci->msix.table[0][0] + offset, size);
    else if (offset >= PBA_OFFSET && offset + size <= PBA_OFFSET + 8)
        value = pci->msix.pending >> 8 * (offset - PBA_OFFSET);
    return value;
}

/* Dwords and quadwords, aligned; anything else is undefined by the specification. */
static void pci_msix_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    struct pci_device *pci = opaque;
    if (size < 4 || offset % size || offset + size > 16ull * pci->msix.vectors)
        return;
    memcpy(&pci->msix.table[0][0] + offset, &value, size);
    pci_msix_update(pci);
}

static const struct bus_ops pci_msix_ops = {pci_msix_read, pci_msix_write};

void pci_add_msix(struct pci_device *pci, unsigned bar, unsigned vectors)
{
    struct pci_msix *msix = &pci->msix;
    ensure(vectors && vectors <= PCI_MSIX_VECTORS);
    pci_add_bar(pci, bar, PCI_BAR_MEM32, BAR_SIZE, &pci_msix_ops, pci, 8);
    msix->vectors = vectors;
    msix->bar = (u8)bar;
    msix->capability = pci_add_capability(pci, PCI_CAP_MSIX, 12);
    pci_set16(pci, msix->capability + CONTROL, (u16)(vectors - 1));
    pci->writable[msix->capability + CONTROL + 1] = 0xc0;
    pci_set32(pci, msix->capability + 4, bar);
    pci_set32(pci, msix->capability + 8, PBA_OFFSET | bar);
}
