/* Ends of processes. */
#include "core.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Wait for the child behind `pidfd`: 0, -EAGAIN with WNOHANG while it runs, or an error. ECHILD
 * means that somebody else in this process has reaped it: it is gone all the same. */
int vs_reap(int pidfd, int options, struct vs_stat *stat) {
    siginfo_t info = {0};
    struct rusage usage = {0};
    long ret;
    *stat = (struct vs_stat){0};
    do ret = SYS(SYS_waitid, P_PIDFD, pidfd, &info, options | WEXITED | __WALL, &usage);
    while (ret == -EINTR);
    if (ret < 0) return (int)ret;
    if (!info.si_pid) return -EAGAIN;
    stat->code = info.si_code;
    stat->status = info.si_status;
    stat->user_us = (int64_t)usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec;
    stat->system_us = (int64_t)usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec;
    stat->peak_kib = usage.ru_maxrss;
    stat->read_blocks = usage.ru_inblock;
    stat->written_blocks = usage.ru_oublock;
    return 0;
}
