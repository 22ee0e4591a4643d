/*
 * Cuts a stream of bytes into JSON values as QEMU's control socket does: values follow each
 * other with or without white space, several in a packet or one in several; what is broken is
 * reported once and skipped, and the next value is good again. Strings may stand in single
 * quotes, as QEMU takes them; they come out in double ones.
 *
 * Hostile input costs at most JSON_STREAM_MAX bytes and no recursion deeper than
 * JSON_STREAM_DEPTH.
 */
#pragma once

#include "base/types.h"

#define JSON_STREAM_MAX   (1 * MiB)
#define JSON_STREAM_DEPTH 256

enum json_stream_result {
    JSON_STREAM_MORE,   /* nothing is complete yet */
    JSON_STREAM_VALUE,  /* text[0, len) is a value; maybe not a good one inside */
    JSON_STREAM_BROKEN, /* `problem` says why; skipped */
};

struct json_stream {
    char *text;
    size_t len, capacity;
    unsigned depth;
    u8 open[JSON_STREAM_DEPTH]; /* the brackets that are to be closed */
    char quote;                 /* the string's, or 0 outside of one */
    bool escaped;               /* the next character of the string is behind a backslash */
    bool bare;                  /* within a word or number outside of all brackets */
    bool recovering;            /* skips the rest of what was broken */
    bool again;                 /* the byte that ended a bare word is to be looked at again */
    const char *problem;
};

/* All zero is an empty stream. */
void json_stream_free(struct json_stream *stream);
/* Forgets what it has so far. */
void json_stream_reset(struct json_stream *stream);

/* Takes one byte. The value's text stays valid until the next call. When `again` is set
 * afterwards, the same byte has to be fed once more. */
enum json_stream_result json_stream_feed(struct json_stream *stream, u8 byte);
