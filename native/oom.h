/* Lack of memory in a machine, told at once by native programs; `viscum.resources.oom` is the same
 * for those in Python. */
#ifndef VISCUM_OOM_H
#define VISCUM_OOM_H

struct vs_oom {
    int fd;           /* to poll; -1 where there is nothing to watch */
    short events;     /* what to poll it for */
    int folder;       /* of the machine's memory group */
    const char *file; /* that counts the kills */
    int log;          /* the kernel's, which knows the victims; -1: not for this user */
    long kills;
};

/* Watch the group in `folder`; `group` is its name. */
void vs_oom_watch(struct vs_oom *oom, int folder, const char *file);
/* Read what happened; says it on standard error. */
void vs_oom_read(struct vs_oom *oom, const char *group);
void vs_oom_close(struct vs_oom *oom);

#endif
