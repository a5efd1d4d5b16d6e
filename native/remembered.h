/* Plans of commands that were compiled before. A file in the cache is parts, each with its length
 * before it: the key, on what a verdict of the policy rests, the encoded plan, and what to know
 * beside it; for a machine that lives on also its config and its monitor's settings. A file counts
 * only where its key is, byte for byte, the key of the command at hand. */
#ifndef VISCUM_REMEMBERED_H
#define VISCUM_REMEMBERED_H

#include <stddef.h>

struct vs_key {
    char *data;
    size_t size;
    char path[4200]; /* of the file that would hold it; empty where there is no cache */
    char state[4096];
};

struct vs_remembered {
    char *plan;
    size_t plan_size;
    int interactive; /* keeps stdin */
    int oom_slot;    /* group whose file says how often memory ran out, VS_NONE: none */
    char oom_file[64];
    unsigned uid, gid; /* on the host, of the machine's user */
    int lives;         /* it lives on: */
    char *notes;       /* lines of `key value` */
    char *config, *settings;
    size_t config_size, settings_size;
};

/* Gather everything that the compiled plan of this command line depends on. 0, or -1 where it
 * cannot be told. */
int vs_key_make(struct vs_key *key, int argc, char **argv);
/* 0 where the cache has it. */
int vs_remembered_read(const struct vs_key *key, struct vs_remembered *remembered);

#endif
