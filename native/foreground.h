/* A machine in the foreground of a native program: `viscum-launch`, and `viscum run` where the
 * same command was compiled before. */
#ifndef VISCUM_FOREGROUND_H
#define VISCUM_FOREGROUND_H

#include "core.h"
#include "oom.h"

#define VS_ID_SIZE 128

/* A new id, which names this process as the owner: the form of `viscum.host.owner_prefix`. */
VS_PRIVATE void vs_make_id(char id[VS_ID_SIZE]);
/* Is there an entry in `folder` that belongs to a machine whose owner is gone? */
VS_PRIVATE int vs_has_orphans(const char *folder);
/* Block the signals that are forwarded; returns a descriptor to read them from. */
VS_PRIVATE int vs_collect_signals(void);
/* Take them as before; for where the machine could not be launched. */
VS_PRIVATE void vs_forget_signals(int signals);
/* Forward signals, and tell of lack of memory, until the machine has ended; returns its exit code
 * as a shell has it. */
VS_PRIVATE int vs_follow(struct vs_machine *m, int signals, struct vs_oom *oom);

#endif
