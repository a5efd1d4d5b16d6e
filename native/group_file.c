#include "group_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

ssize_t vs_group_read(int folder, const char *name, char *data, size_t size) {
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, data, size - 1);
    if (fd >= 0) close(fd);
    data[n > 0 ? n : 0] = 0;
    return n;
}

int vs_group_lack_v1(int folder) {
    char line[48];
    int watched = openat(folder, "memory.oom_control", O_RDONLY | O_CLOEXEC);
    int control = openat(folder, "cgroup.event_control", O_WRONLY | O_CLOEXEC);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int n = snprintf(line, sizeof line, "%d %d", fd, watched);
    int done = fd >= 0 && watched >= 0 && control >= 0 && write(control, line, (size_t)n) == n;
    if (watched >= 0) close(watched);
    if (control >= 0) close(control);
    if (!done && fd >= 0) close(fd);
    return done ? fd : -1;
}
