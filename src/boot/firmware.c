/* A firmware image as ROM, see firmware.h. */
#include "boot/firmware.h"

#include "base/ensure.h"
#include "memory/pmap.h"
#include "platform/board.h"
#include "platform/ram.h"

bool firmware_map(struct board *board, const struct boot_image *image, struct error *err)
{
    struct gpa at = gpa(4 * GiB - image->size);
    if (!image->size || image->size % PAGE_SIZE || image->size > FIRMWARE_MAX)
        return error_set(err,
                         "-bios '%s' is no ROM image: its size is %llu bytes, not a "
                         "multiple of 4096 up to 8 MiB",
                         image->name, (unsigned long long)image->size);
    /* As RAM first: what is written to ROM vanishes. */
    ensure(pmap_set_rom(board->pmap, at, image->size, false));
    ram_write(board, at, image->data, image->size);
    ensure(pmap_set_rom(board->pmap, at, image->size, true));
    return true;
}
