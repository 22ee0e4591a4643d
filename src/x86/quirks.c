/*
 * The quirks of the host's processor: asked for where it tells of them, tried out where that is
 * easy, else its maker's.
 */
#include "x86/quirks.h"

#include "x86/model.h"

/* OF after a rotate by 4 that finds it so. */
static u8 rotated_of(u8 of)
{
    u8 value = 0x12, after;
    __asm__("addb $0x7f, %1\n\trolb $4, %2\n\tseto %0"
            : "=r"(after), "+r"(of), "+r"(value)
            :
            : "cc");
    return after;
}

u32 x86_host_quirks(void)
{
    bool amd = x86_host_is_amd();
    u32 out[4];
    x86_host_cpuid(7, 0, out);
    return (amd ? QUIRKS_AMD : QUIRKS_INTEL) |
           (rotated_of(0) != rotated_of(1) ? QUIRK_ROTATE_OF : 0) |
           (!amd && out[2] & BIT(16) ? QUIRK_X87_FIP_57 : 0) |
           (out[1] & BIT(6) ? QUIRK_X87_FDP_UNMASKED : 0) |
           (out[1] & BIT(13) ? QUIRK_X87_NO_SELECTORS : 0);
}
