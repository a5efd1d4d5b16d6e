/* Names below a folder that a guest may have filled: resolved by the kernel, never out of it. */
#ifndef VISCUM_LOOKUP_H
#define VISCUM_LOOKUP_H

#include "core.h"

/* How `attach` treats its target. */
enum { VS_CREATE_FOLDER = 1, VS_CREATE_FILE = 2, VS_NO_LINKS = 4 };
/* Beside the mode of what is made: what is there already stays, and no link leads to it. */
enum { VS_KEEP = 0200000 };

/* Whether a name is one of a file in a folder, not the folder or the one above it. */
static inline int vs_is_plain(const char *name) {
    return *name && !vs_same(name, ".") && !vs_same(name, "..");
}

/* Open `path` below slot `dir` (VS_NONE: the host's root) with O_PATH or as `flags` say. Links
 * are followed inside of the folder only, with VS_NO_LINKS not at all. */
VS_PRIVATE int vs_lookup(struct vs_child *c, uint64_t dir, const char *path, uint64_t flags,
                         int how, struct vs_fault *fault);
/* The same; what is missing is made first, as `create` says. */
VS_PRIVATE int vs_lookup_or_make(struct vs_child *c, uint64_t dir, const char *path, int create,
                                 struct vs_fault *fault);
/* Open a folder below descriptor `root` with O_PATH; what is missing is made first. */
VS_PRIVATE int vs_make_folders(struct vs_child *c, int root, const char *path,
                               struct vs_fault *fault);

#endif
