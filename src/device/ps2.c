/* What PS/2 keyboard and mouse have in common: the bytes on their way out, see ps2.h. */
#include "device/ps2.h"

#include <string.h>

#include "base/ensure.h"

void ps2_queue_clear(struct ps2_queue *queue)
{
    memset(queue, 0, sizeof(*queue));
}

bool ps2_queue_valid(const struct ps2_queue *queue)
{
    return queue->typed_first < PS2_TYPED && queue->typed_count <= PS2_TYPED &&
           queue->answers_first < PS2_ANSWERS && queue->answers_count <= PS2_ANSWERS;
}

void ps2_answer(struct ps2_queue *queue, u8 byte)
{
    if (queue->answers_count < PS2_ANSWERS)
        queue->answers[(queue->answers_first + queue->answers_count++) % PS2_ANSWERS] = byte;
}

unsigned ps2_room(const struct ps2_queue *queue)
{
    return PS2_TYPED - queue->typed_count;
}

void ps2_typed(struct ps2_queue *queue, u8 byte)
{
    ensure(ps2_room(queue));
    queue->typed[(queue->typed_first + queue->typed_count++) % PS2_TYPED] = byte;
}

bool ps2_next(struct ps2_queue *queue, u8 *byte)
{
    if (queue->answers_count) {
        *byte = queue->answers[queue->answers_first];
        queue->answers_first = (queue->answers_first + 1) % PS2_ANSWERS;
        queue->answers_count--;
    } else if (queue->typed_count) {
        *byte = queue->typed[queue->typed_first];
        queue->typed_first = (queue->typed_first + 1) % PS2_TYPED;
        queue->typed_count--;
    } else {
        return false;
    }
    queue->last = *byte;
    return true;
}
