/* Shared directories on the command line, see shares.h. */
#include "cli/shares.h"

#include <string.h>

#include "cli/plugs.h"

static bool set_model(struct share_config *share, const char *value, struct error *err)
{
    static const struct {
        const char *name;
        enum p9_security security;
    } models[] = {{"none", P9_NONE},
                  {"passthrough", P9_NONE},
                  {"mapped", P9_MAPPED},
                  {"mapped-xattr", P9_MAPPED}};
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        if (!strcmp(value, models[i].name)) {
            share->p9.security = models[i].security;
            return true;
        }
    }
    return error_set(err, "-virtfs: security_model=%.60s is neither none nor mapped-xattr",
                     value);
}

static bool set_tag(struct share_config *share, const char *value, struct error *err)
{
    return words_copy("mount_tag", value, share->tag, sizeof(share->tag), err);
}

static bool share_word(struct share_config *share, const struct word *word, struct error *err)
{
    static const char *const ignored[] = {"multidevs", "fmode", "dmode", NULL};
    const char *key = word->key, *value = word->value;
    if (!value && strcmp(key, "readonly"))
        return error_set(err, "-virtfs: '%s' has no value", key);
    if (!strcmp(key, "path"))
        return words_copy("-virtfs path", value, share->path, sizeof(share->path), err);
    if (!strcmp(key, "id"))
        return words_copy("-virtfs id", value, share->id, sizeof(share->id), err);
    if (!strcmp(key, "mount_tag"))
        return set_tag(share, value, err);
    if (!strcmp(key, "security_model"))
        return set_model(share, value, err);
    if (!strcmp(key, "readonly")) {
        share->p9.read_only = true;
        return !value || words_switch("-virtfs readonly", value, &share->p9.read_only, err);
    }
    return words_among(key, ignored) ||
           error_set(err,
                     "-virtfs: '%s' is not supported; there are path, mount_tag, "
                     "security_model, readonly and id",
                     key);
}

/* A new share from the option's words. NULL: *err. */
static struct share_config *add_share(struct run_options *o, const char *value,
                                      struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    struct word word = {0};
    if (plugs->n_shares == PLUGS_MAX_SHARES) {
        error_set(err, "-virtfs: more than %d directories", PLUGS_MAX_SHARES);
        return NULL;
    }
    struct share_config *share = &plugs->shares[plugs->n_shares++];
    *share = (struct share_config){.p9.path = share->path};
    words_next(&value, &word);
    if (word.value || strcmp(word.key, "local")) {
        error_set(err, "-virtfs: '%.60s' is not supported; write local,path=DIR,...", word.key);
        return NULL;
    }
    while (words_next(&value, &word))
        if (!share_word(share, &word, err))
            return NULL;
    if (!share->path[0]) {
        error_set(err, "-virtfs: no path=DIR");
        return NULL;
    }
    return share;
}

bool shares_add_fsdev(struct run_options *o, const char *value, struct error *err)
{
    const struct share_config *share = add_share(o, value, err);
    const struct plugs_config *plugs = &o->vm.plugs;
    return share && (share->id[0] || error_set(err, "-fsdev: no id=ID")) &&
           words_new_id("-fsdev", share->id, plugs->shares->id, plugs->n_shares - 1,
                        sizeof(*share), err);
}

bool shares_add_virtfs(struct run_options *o, const char *value, struct error *err)
{
    struct share_config *share = add_share(o, value, err);
    if (!share)
        return false;
    if (!share->tag[0])
        return error_set(err, "-virtfs: no mount_tag=TAG");
    struct plug_config *plug = plugs_add(o, PLUG_P9, err);
    if (!plug)
        return false;
    share->used = true;
    plug->share = o->vm.plugs.n_shares - 1;
    return true;
}

bool shares_property(struct run_options *o, struct plug_config *plug, const struct word *word,
                     struct error *err)
{
    struct plugs_config *plugs = &o->vm.plugs;
    if (!strcmp(word->key, "mount_tag"))
        return plug->share < PLUGS_MAX_SHARES
                   ? set_tag(&plugs->shares[plug->share], word->value, err)
                   : error_set(err, "-device virtio-9p-pci: give fsdev= before mount_tag=");
    if (strcmp(word->key, "fsdev"))
        return error_set(err, "-device virtio-9p-pci: no property '%s'", word->key);
    for (unsigned i = 0; i < plugs->n_shares; i++) {
        if (plugs->shares[i].used || strcmp(plugs->shares[i].id, word->value))
            continue;
        plugs->shares[i].used = true;
        plug->share = i;
        return true;
    }
    return error_set(err, "-device virtio-9p-pci: no free -fsdev with id=%.60s", word->value);
}

bool shares_check(struct run_options *o, struct plug_config *plug, struct error *err)
{
    bool complete = plug->share < PLUGS_MAX_SHARES && o->vm.plugs.shares[plug->share].tag[0];
    return complete || error_set(err, "-device virtio-9p-pci: no fsdev=ID and mount_tag=TAG");
}
