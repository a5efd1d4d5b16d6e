/* Files of control groups, by the descriptor of the group's folder. */
#ifndef VISCUM_GROUP_FILE_H
#define VISCUM_GROUP_FILE_H

#include "core.h"

#include <sys/types.h>

/* Read a small file; `data` ends in a NUL, also where -1 is returned. */
VS_PRIVATE ssize_t vs_group_read(int folder, const char *name, char *data, size_t size);
/* An eventfd that version 1 counts on when the group lacks memory; -1 where there is none. */
VS_PRIVATE int vs_group_lack_v1(int folder);

#endif
