/* Ends of processes. */
#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* What the kernel remembers of a process behind its pidfd (linux/pidfd.h, Linux 6.15). */
struct pidfd_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
#define GET_INFO  0xC040FF0B
#define INFO_EXIT 8

/* Somebody else in this process has reaped the child, or ignores SIGCHLD. */
static void ask_pidfd(int pidfd, struct vs_stat *stat) {
    struct pidfd_info info = {.mask = INFO_EXIT};
    if (SYS(SYS_ioctl, pidfd, GET_INFO, &info) < 0 || !(info.mask & INFO_EXIT)) return;
    int signal = info.exit_code & 0x7f;
    stat->code = signal ? CLD_KILLED : CLD_EXITED;
    stat->status = signal ? signal : info.exit_code >> 8 & 0xff;
}

/* Wait for the child behind `pidfd`: 0, -EAGAIN with WNOHANG while it runs, or an error. ECHILD
 * means that somebody else in this process has reaped it: it is gone all the same. */
int vs_reap(int pidfd, int options, struct vs_stat *stat) {
    siginfo_t info = {0};
    struct rusage usage = {0}, own = {0};
    long ret;
    *stat = (struct vs_stat){0};
    do ret = SYS(SYS_waitid, P_PIDFD, pidfd, &info, options | WEXITED | __WALL, &usage);
    while (ret == -EINTR);
    if (ret == -ECHILD) ask_pidfd(pidfd, stat);
    if (ret < 0) return (int)ret;
    if (!info.si_pid) return -EAGAIN;
    stat->code = info.si_code;
    stat->status = info.si_status;
    stat->user_us = (int64_t)usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec;
    stat->system_us = (int64_t)usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec;
    /* execve charges the peak of the memory that the child shared, ours, to the child: only what
     * is above it is the child's own. */
    getrusage(RUSAGE_SELF, &own);
    stat->peak_kib = usage.ru_maxrss > own.ru_maxrss ? usage.ru_maxrss : 0;
    stat->read_blocks = usage.ru_inblock;
    stat->written_blocks = usage.ru_oublock;
    return 0;
}

static unsigned long long status_mask(const char *status, const char *field) {
    const char *at = strstr(status, field);
    return at ? strtoull(at + strlen(field), NULL, 16) : 0;
}

/* The kernel drops signals that the first process of a pid namespace does not handle; what the
 * user means by one of these is that it should end. */
int vs_is_dropped(int32_t pid, int number) {
    char path[48], status[4096];
    if (number != SIGHUP && number != SIGINT && number != SIGQUIT && number != SIGTERM) return 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    long fd = SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    long n = fd < 0 ? -1 : SYS(SYS_read, fd, status, sizeof status - 1);
    if (fd >= 0) SYS(SYS_close, fd);
    if (n <= 0) return 0;
    status[n] = 0;
    unsigned long long known = status_mask(status, "SigCgt:") | status_mask(status, "SigIgn:") |
                               status_mask(status, "SigBlk:");
    return !(known >> (number - 1) & 1);
}
