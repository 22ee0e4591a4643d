/* Cutting a stream into JSON values, see json_stream.h. */
#include "control/json_stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"

void json_stream_free(struct json_stream *stream)
{
    free(stream->text);
    *stream = (struct json_stream){0};
}

void json_stream_reset(struct json_stream *stream)
{
    *stream = (struct json_stream){.text = stream->text, .capacity = stream->capacity};
}

static void put(struct json_stream *stream, char c)
{
    if (stream->len == stream->capacity) {
        stream->capacity = stream->capacity ? 2 * stream->capacity : 256;
        stream->text = realloc(stream->text, stream->capacity);
        ensure(stream->text);
    }
    stream->text[stream->len++] = c;
}

static enum json_stream_result broken(struct json_stream *stream, const char *problem)
{
    json_stream_reset(stream);
    stream->problem = problem;
    stream->recovering = true;
    return JSON_STREAM_BROKEN;
}

static bool is_space(u8 c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_structural(u8 c)
{
    return c && strchr("{}[]:,", c);
}

/* Control characters and bytes that no UTF-8 has: QEMU's clients send 0xFF to get a clean
 * start. */
static bool is_junk(u8 c)
{
    return (c < 0x20 && !is_space(c)) || c >= 0xfe;
}

/* Within a string: as it is, but for the quotes. */
static enum json_stream_result in_string(struct json_stream *stream, u8 c)
{
    if (c < 0x20 || c >= 0xfe)
        return broken(stream, "a string is not closed");
    if (stream->escaped) {
        stream->escaped = false;
        if (c == '\'')
            stream->text[stream->len - 1] = '\''; /* in place of the backslash */
        else
            put(stream, (char)c);
    } else if (c == (u8)stream->quote) {
        stream->quote = 0;
        put(stream, '"');
    } else if (c == '"') {
        put(stream, '\\');
        put(stream, '"');
    } else {
        stream->escaped = c == '\\';
        put(stream, (char)c);
    }
    return JSON_STREAM_MORE;
}

static enum json_stream_result open_bracket(struct json_stream *stream, u8 c)
{
    if (stream->depth == JSON_STREAM_DEPTH)
        return broken(stream, "it nests too deep");
    stream->open[stream->depth++] = c == '{' ? '}' : ']';
    put(stream, (char)c);
    return JSON_STREAM_MORE;
}

static enum json_stream_result close_bracket(struct json_stream *stream, u8 c)
{
    if (!stream->depth || stream->open[stream->depth - 1] != c) {
        enum json_stream_result result = broken(stream, "a bracket has no partner");
        stream->recovering = false; /* this was the whole of it */
        return result;
    }
    put(stream, (char)c);
    return --stream->depth ? JSON_STREAM_MORE : JSON_STREAM_VALUE;
}

/* What no value begins with. */
static bool is_foreign(u8 c)
{
    bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    return !letter && !(c >= '0' && c <= '9') && c != '-' && c != '+';
}

/* Outside of all brackets: a word or number up to what ends it. */
static enum json_stream_result bare_word(struct json_stream *stream, u8 c)
{
    if (!is_space(c) && !is_structural(c) && !is_junk(c) && c != '"' && c != '\'') {
        stream->bare = true;
        put(stream, (char)c);
        return JSON_STREAM_MORE;
    }
    stream->again = !is_space(c);
    return JSON_STREAM_VALUE;
}

static enum json_stream_result outside(struct json_stream *stream, u8 c)
{
    if (stream->bare)
        return bare_word(stream, c);
    if (is_junk(c))
        return stream->depth ? broken(stream, "it is cut off") : JSON_STREAM_MORE;
    if (c == '"' || c == '\'') {
        stream->quote = (char)c;
        put(stream, '"');
        return JSON_STREAM_MORE;
    }
    if (c == '{' || c == '[')
        return open_bracket(stream, c);
    if (c == '}' || c == ']')
        return close_bracket(stream, c);
    if (stream->depth) {
        put(stream, (char)c);
        return JSON_STREAM_MORE;
    }
    if (is_space(c))
        return JSON_STREAM_MORE;
    return is_foreign(c) ? broken(stream, "a value was expected") : bare_word(stream, c);
}

enum json_stream_result json_stream_feed(struct json_stream *stream, u8 c)
{
    if (stream->len && !stream->depth && !stream->quote && !stream->bare)
        stream->len = 0; /* the last value was taken */
    stream->again = false;
    if (stream->recovering) {
        if (c != '{' && c != '\n' && !is_junk(c))
            return JSON_STREAM_MORE;
        stream->recovering = false;
    }
    bool was_string = stream->quote;
    enum json_stream_result result = was_string ? in_string(stream, c) : outside(stream, c);
    if (result == JSON_STREAM_MORE && was_string && !stream->quote && !stream->depth)
        result = JSON_STREAM_VALUE; /* a string alone */
    if (result == JSON_STREAM_VALUE)
        stream->bare = false;
    if (result == JSON_STREAM_MORE && stream->len > JSON_STREAM_MAX)
        return broken(stream, "it is too long");
    return result;
}
