/* Leaks that the host's processor is free of, see leaks.h. */
#include "host/leaks.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "x86/regs.h"

/* Linux: Documentation/ABI/testing/sysfs-devices-system-cpu. */
static bool is_unaffected(const char *leak)
{
    char path[96], text[32];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", leak);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    static const char unaffected[] = "Not affected";
    ssize_t len = read(fd, text, sizeof(text));
    close(fd);
    return len >= (ssize_t)strlen(unaffected) && !memcmp(text, unaffected, strlen(unaffected));
}

u64 host_leaks_not(void)
{
    static const struct {
        const char *leak;
        u64 bits;
    } rows[] = {
        {"mds", ARCH_CAP_MDS_NO},
        {"tsx_async_abort", ARCH_CAP_TAA_NO},
        {"mmio_stale_data", ARCH_CAP_SBDR_SSDP_NO | ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO},
        {"gather_data_sampling", ARCH_CAP_GDS_NO},
        {"reg_file_data_sampling", ARCH_CAP_RFDS_NO},
        {"spec_store_bypass", ARCH_CAP_SSB_NO},
    };
    u64 bits = 0;
    for (unsigned n = 0; n < ARRAY_LEN(rows); n++)
        bits |= is_unaffected(rows[n].leak) ? rows[n].bits : 0;
    return bits;
}
