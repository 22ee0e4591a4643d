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

/* The value at `from` up to a comma of its own; returns where it ends. */
static const char *value_copy(char *text, size_t size, const char *from)
{
    size_t n = 0;
    while (*from && (*from != ',' || from[1] == ',')) {
        from += *from == ',';
        if (n + 1 < size)
            text[n++] = *from;
        from++;
    }
    text[n] = 0;
    return from;
}

bool words_next(const char **list, struct word *word)
{
    const char *from = *list;
    if (!*from)
        return false;
    size_t key = strcspn(from, ",=");
    memset(word->key, 0, sizeof(word->key));
    memcpy(word->key, from, key < sizeof(word->key) - 1 ? key : sizeof(word->key) - 1);
    word->value = NULL;
    from += key;
    if (*from == '=') {
        from = value_copy(word->text, sizeof(word->text), from + 1);
        word->value = word->text;
    }
    *list = from + (*from == ',');
    return true;
}

bool words_among(const char *text, const char *const *names)
{
    for (; *names; names++)
        if (!strcmp(text, *names))
            return true;
    return false;
}

bool words_switch(const char *option, const char *text, bool *on, struct error *err)
{
    static const char *const yes[] = {"on", "yes", "true", "y", NULL};
    static const char *const no[] = {"off", "no", "false", "n", NULL};
    *on = words_among(text, yes);
    if (!*on && !words_among(text, no))
        return error_set(err, "%s: '%.100s' is neither on nor off", option, text);
    return true;
}

bool words_copy(const char *option, const char *text, char *to, size_t size, struct error *err)
{
    if (strlen(text) >= size)
        return error_set(err, "%s: '%.100s' is too long", option, text);
    memcpy(to, text, strlen(text) + 1);
    return true;
}

bool words_new_id(const char *option, const char *id, const char *ids, size_t n, size_t stride,
                  struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (*id && !strcmp(ids + i * stride, id))
            return error_set(err, "%s: there is an id=%.60s already", option, id);
    return true;
}

bool words_ask_help(const char *text)
{
    return !strcmp(text, "help") || !strcmp(text, "?");
}
