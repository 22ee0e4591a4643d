/*
 * What a machine's display adapter shows, for those who look: a terminal, a picture file. The
 * adapter fills in the functions; a machine without one has none.
 *
 * Threads: under the board lock.
 */
#pragma once

#include "base/types.h"

/* More of a text mode is cut off. */
#define SCREEN_MAX_COLUMNS 256
#define SCREEN_MAX_ROWS    128

struct screen_cell {
    u8 character;              /* of code page 437, unless the guest loaded a font of its own */
    u8 foreground, background; /* colours 0..15, IBM's order: blue is 1, red 4 */
    bool blinks;
};

struct screen_text {
    unsigned columns, rows;
    bool cursor; /* shown, at: */
    unsigned cursor_column, cursor_row;
    struct screen_cell cells[SCREEN_MAX_ROWS][SCREEN_MAX_COLUMNS];
};

struct screen_image {
    unsigned width, height; /* 0: the screen is off */
    u8 *rgb;                /* width * height * 3 bytes from malloc; NULL: out of memory */
};

struct screen {
    /* False: the screen is off, or shows graphics. */
    bool (*text)(void *opaque, struct screen_text *text);
    /* In every mode; the caller frees image->rgb. */
    void (*image)(void *opaque, struct screen_image *image);
    /* Of the picture, in dots; false: the screen is off. */
    bool (*size)(void *opaque, unsigned *width, unsigned *height);
    void *opaque;
};

/* False: there is no display adapter, or the screen is off. */
static inline bool screen_size(const struct screen *screen, unsigned *width, unsigned *height)
{
    return screen->size && screen->size(screen->opaque, width, height);
}

/* False: there is no display adapter, or no text on it. */
static inline bool screen_text(const struct screen *screen, struct screen_text *text)
{
    return screen->text && screen->text(screen->opaque, text);
}

/* False: there is no display adapter. */
static inline bool screen_image(const struct screen *screen, struct screen_image *image)
{
    *image = (struct screen_image){0};
    if (!screen->image)
        return false;
    screen->image(screen->opaque, image);
    return true;
}
