/* The engines of this build and the choice among them, see engine.h. */
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/ensure.h"

const struct engine *const engines[] = {&direct_engine, &bt_engine, &sim_engine};
const unsigned n_engines = ARRAY_LEN(engines);

const struct engine *engine_named(const char *name)
{
    for (unsigned i = 0; i < n_engines; i++) {
        if (!strcmp(engines[i]->name, name))
            return engines[i];
    }
    return NULL;
}

bool engine_exchange(struct vcpu *vcpu, const struct engine *engine, struct error *err)
{
    const struct engine *old = vcpu->engine;
    struct error again;
    old->detach(vcpu);
    vcpu->engine = engine;
    bool attached = engine->attach(vcpu, err);
    if (!attached) {
        vcpu->engine = old;
        ensure(old->attach(vcpu, &again));
    }
    return attached;
}

const struct engine *engine_first_working(struct error *why)
{
    size_t used = 0;
    why->text[0] = 0;
    for (unsigned i = 0; i < n_engines; i++) {
        struct error reason;
        if (engines[i]->probe(&reason))
            return engines[i];
        snprintf(why->text + used, sizeof(why->text) - used, "%s%.30s: %.100s",
                 used ? "; " : "", engines[i]->name, reason.text);
        used = strlen(why->text);
    }
    return NULL;
}
