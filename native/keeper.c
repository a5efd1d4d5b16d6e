/* The keeper of a machine that is typed to: a process that does nothing but hold what would end
 * with the monitor, the master of its terminal or the writing end of its standard input, until the
 * machine has ended. The next monitor takes it from there. Output needs none: the machine itself
 * holds its pipes. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELD    3 /* descriptors of a keeper */
#define MACHINE 4

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

static void keep(int held, int machine) {
    struct pollfd ended = {.fd = MACHINE, .events = POLLIN};
    held = fcntl(held, F_DUPFD, MACHINE + 1); /* neither may stand where the other goes to */
    machine = fcntl(machine, F_DUPFD, MACHINE + 1);
    dup2(held, HELD);
    dup2(machine, MACHINE);
    SYS(SYS_close_range, MACHINE + 1, ~0u, 0);
    prctl(PR_SET_NAME, "viscum-keeper");
    prctl(PR_SET_PTRACER, -1ul); /* Yama: the next monitor is no ancestor of ours */
    while (poll(&ended, 1, -1) < 0) continue;
    _exit(0);
}

/* A machine without a keeper loses no more than its terminal, and only with its monitor. Who finds
 * one in the status finds it holding: until then its descriptors are those of this process. */
void vs_keeper_start(struct vs_monitor *mon) {
    int held = mon->terminal >= 0 ? mon->terminal : mon->input, ends[2];
    struct vs_fault fault;
    char none;
    if (held < 0 || vs_pipe(ends, &fault) < 0) return;
    pid_t pid = fork();
    if (pid == 0) keep(held, mon->m.pidfd);
    close(ends[1]); /* the keeper closes its own once it holds what it is to hold */
    while (read(ends[0], &none, 1) < 0 && errno == EINTR) continue;
    close(ends[0]);
    mon->keeper = pid < 0 ? -1 : vs_above_standard((int)SYS(SYS_pidfd_open, pid, 0));
    mon->keeper_pid = pid < 0 ? 0 : pid;
}

static void forget(struct vs_monitor *mon) {
    close(mon->keeper);
    mon->keeper = -1;
    mon->keeper_pid = 0;
}

/* Let go of what is held: who reads standard input is at its end. */
void vs_keeper_end(struct vs_monitor *mon) {
    siginfo_t info;
    if (mon->keeper < 0) return;
    SYS(SYS_pidfd_send_signal, mon->keeper, SIGKILL, 0, 0);
    while (SYS(SYS_waitid, P_PIDFD, mon->keeper, &info, WEXITED, 0) < 0 && errno == EINTR) continue;
    forget(mon);
}

/* The keeper that an earlier monitor started, and a copy of what it holds; -1 where it is gone. */
int vs_keeper_take(struct vs_monitor *mon, int pid, unsigned long long start) {
    mon->keeper = pid > 0 ? vs_above_standard((int)SYS(SYS_pidfd_open, pid, 0)) : -1;
    if (mon->keeper < 0) return -1;
    mon->keeper_pid = pid;
    int held = vs_start_time(pid) == start
                   ? vs_above_standard((int)SYS(SYS_pidfd_getfd, mon->keeper, HELD, 0))
                   : -1;
    if (held >= 0) return held;
    forget(mon); /* the pid is another process's by now */
    return -1;
}
