/* Host code of vector instructions, see thunk.h. */
#include "engine/sim/thunk.h"

#include <string.h>

#include "engine/sim/sim.h"
#include "x86/native.h"

bool thunks_map(struct thunks *thunks, struct error *err)
{
    *thunks = (struct thunks){0};
    return code_memory_map(&thunks->memory, THUNK_MEMORY, NULL, err);
}

void thunks_unmap(struct thunks *thunks)
{
    code_memory_unmap(&thunks->memory);
}

void thunks_reset(struct thunks *thunks)
{
    thunks->used = 0;
}

bool thunks_trap(struct thunks *thunks, int signal, ucontext_t *context)
{
    u64 rip = (u64)context->uc_mcontext.gregs[REG_RIP];
    u64 start = (u64)thunks->memory.exec;
    if (signal != SIGFPE || !thunks->running || rip < start ||
        rip >= start + thunks->memory.size)
        return false;
    const struct native_head *head = native_head(thunks->running);
    context->uc_mcontext.gregs[REG_RIP] = (s64)((u64)thunks->running + head->fault_exit);
    return true;
}

bool thunk_run(struct x86_cpu *c, const void *code, void *mem)
{
    struct thunks *thunks = &sim_of(c)->thunks;
    thunks->running = code;
    bool ok = ((native_code *)code)(c, mem);
    thunks->running = NULL;
    return ok;
}

const void *thunk_emit(struct x86_cpu *c, const void *bytes, unsigned size)
{
    struct thunks *thunks = &sim_of(c)->thunks;
    u64 at = align_up(thunks->used, 16);
    if (at + size > thunks->memory.size)
        return NULL;
    memcpy(thunks->memory.write + at, bytes, size);
    thunks->used = at + size;
    return thunks->memory.exec + at;
}
