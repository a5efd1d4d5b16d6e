/* Ends of processes. */
#include "core.h"

#include <errno.h>
#include <signal.h>
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
