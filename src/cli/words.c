/* Option arguments, see words.h. */
#include "cli/words.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool words_number(const char *option, const char *text, u64 low, u64 high, u64 *value,
                  struct error *err)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 0);
    if (!isdigit((unsigned char)*text) || *end || errno || *value < low || *value > high)
        return error_set(err, "%s: '%s' is not a number from %llu to %llu", option, text,
                         (unsigned long long)low, (unsigned long long)high);
    return true;
}

bool words_size(const char *option, const char *text, u64 *bytes, struct error *err)
{
    char *end;
    unsigned shift = 20;
    errno = 0;
    u64 value = strtoull(text, &end, 10);
    bool good = isdigit((unsigned char)*text) && !errno;
    if (good && *end) {
        const char *units = "bkmgt";
        const char *unit = strchr(units, tolower((unsigned char)*end));
        good = unit && !end[1];
        shift = good ? 10 * (unsigned)(unit - units) : 0;
    }
    if (!good || value > (UINT64_MAX >> shift))
        return error_set(err, "%s: '%s' is not a size; write 512M, 2G or a number of MiB",
                         option, text);
    *bytes = value << shift;
    return true;
}

bool words_next(const char **list, struct word *word)
{
    const char *from = *list;
    if (!*from)
        return false;
    size_t length = strcspn(from, ",");
    size_t key = strcspn(from, ",=");
    *word = (struct word){0};
    memcpy(word->key, from, key < sizeof(word->key) - 1 ? key : sizeof(word->key) - 1);
    if (key < length) {
        size_t size = length - key - 1;
        if (size > sizeof(word->text) - 1)
            size = sizeof(word->text) - 1;
        memcpy(word->text, from + key + 1, size);
        word->value = word->text;
    }
    *list = from + length + (from[length] == ',');
    return true;
}

bool words_among(const char *text, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(text, *names))
            return true;
    return false;
}
