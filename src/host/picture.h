/*
 * Picture files of what a screen shows: PPM (Netpbm's P6) and PNG (ISO/IEC 15948, 8-bit RGB,
 * deflated by zlib).
 */
#pragma once

#include "base/error.h"
#include "platform/screen.h"

enum picture_format { PICTURE_PPM, PICTURE_PNG };

/* "ppm" or "png"; false: neither. */
bool picture_format_named(enum picture_format *format, const char *name);

/* Replaces the file. A screen that is off gives a picture of one black dot. False: *err says
 * why. */
bool picture_save(const struct screen_image *image, enum picture_format format,
                  const char *path, struct error *err);
