/* A file or block device as it is: the bottom of each stack. */
#pragma once

#include "host/block/image.h"

/* NULL: *err says why. Takes QEMU's locks on the file, so that no second writer opens it,
 * whichever of the two programs it is. */
struct image *raw_open(const struct image_config *config, struct error *err);

/* A temporary file that nobody else can find, empty; it grows as it is written. */
struct image *raw_temporary(struct error *err);
