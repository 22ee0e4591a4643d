/* A disk image that a server of the Network Block Device protocol keeps, by libnbd. */
#pragma once

#include "host/block/image.h"

/* Whether a file name means one: nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH,
 * nbd:HOST:PORT[:exportname=E], nbd:unix:PATH[:exportname=E]. */
bool nbd_is_address(const char *path);

/* NULL: *err says why. */
struct image *nbd_open(const struct image_config *config, struct error *err);
