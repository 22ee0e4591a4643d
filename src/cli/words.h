/* The small languages inside option arguments: numbers, sizes, key=value lists. */
#pragma once

#include "base/error.h"
#include "base/types.h"

/* A whole number in C's notation, `low` to `high`; false: *err names `option`. */
bool words_number(const char *option, const char *text, u64 low, u64 high, u64 *value,
                  struct error *err);

/* Bytes: "512M", "1G", "65536K", and a plain number counts MiB, as QEMU's -m. */
bool words_size(const char *option, const char *text, u64 *bytes, struct error *err);

/*
 * The next word of a list "word,key=value,..." at *list, which moves behind it. A word without
 * '=' has value NULL; a value's own commas are doubled, as in QEMU. False: the list is at its
 * end. Words are cut at sizeof(key) and sizeof(text), the longest path.
 */
struct word {
    char key[64];
    char text[4096];
    const char *value; /* text, or NULL */
};
bool words_next(const char **list, struct word *word);

/* Whether text is one of the names in a list that ends with NULL. */
bool words_among(const char *text, const char *const *names);

/* "on" or "off", or another of QEMU's words for them; false: *err names `option`. */
bool words_switch(const char *option, const char *text, bool *on, struct error *err);

/*
 * Whether `id` is none of the n ids from `ids` on, `stride` bytes apart, or empty; false: *err
 * names `option`.
 */
bool words_new_id(const char *option, const char *id, const char *ids, size_t n, size_t stride,
                  struct error *err);

/* Copies `text` into `to`; false: it is too long, and *err names `option`. */
bool words_copy(const char *option, const char *text, char *to, size_t size, struct error *err);

/* Whether an argument asks what there is, instead of giving something. */
bool words_ask_help(const char *text);
