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

/* Begin with the kernel's log, before the launch: nothing of it is missed then. */
void vs_oom_begin(struct vs_oom *oom);
/* Watch the group in `folder`, which nothing was killed in when vs_oom_begin was called. */
void vs_oom_watch(struct vs_oom *oom, int folder, const char *file);
/* Read what happened and say it on standard error; `group` is the group's name. */
void vs_oom_read(struct vs_oom *oom, const char *group);
void vs_oom_close(struct vs_oom *oom);

#endif
