/* A machine in the foreground of a native program. */
#include "foreground.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PREFIX "viscum-"

static ssize_t read_small(const char *path, char *data, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, data, size - 1);
    if (fd >= 0) close(fd);
    data[n > 0 ? n : 0] = 0;
    return n;
}

/* Field 22 of /proc/PID/stat: when the process started, in clock ticks since boot; 0: gone. */
static unsigned long long start_time(unsigned long pid) {
    char data[1024], path[48];
    snprintf(path, sizeof path, "/proc/%lu/stat", pid);
    if (read_small(path, data, sizeof data) <= 0) return 0;
    char *at = strrchr(data, ')');
    if (at && (at[2] == 'Z' || at[2] == 'X')) return 0; /* ended, though not waited for */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static unsigned long pid_namespace(void) {
    struct stat ns = {0};
    stat("/proc/self/ns/pid", &ns);
    return (unsigned long)ns.st_ino;
}

void vs_make_id(char id[VS_ID_SIZE]) {
    unsigned long pid = (unsigned long)getpid();
    snprintf(id, VS_ID_SIZE, PREFIX "%lx-%lx-%llx-0", pid_namespace(), pid, start_time(pid));
}

static int is_orphan(const char *name, unsigned long here) {
    unsigned long namespace, pid;
    unsigned long long started, number;
    int end = 0;
    if (sscanf(name, PREFIX "%lx-%lx-%llx-%llx%n", &namespace, &pid, &started, &number, &end) != 4)
        return 0;
    return !name[end] && namespace == here && start_time(pid) != started;
}

int vs_has_orphans(const char *folder) {
    unsigned long here = pid_namespace();
    DIR *entries = opendir(folder);
    int found = 0;
    if (!entries) return 0;
    for (struct dirent *entry; !found && (entry = readdir(entries));)
        if (!strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1))
            found = is_orphan(entry->d_name, here);
    closedir(entries);
    return found;
}

int vs_collect_signals(void) {
    sigset_t forwarded;
    sigfillset(&forwarded);
    sigdelset(&forwarded, SIGTTIN);
    sigdelset(&forwarded, SIGTTOU);
    sigdelset(&forwarded, SIGTSTP);
    sigprocmask(SIG_SETMASK, &forwarded, NULL);
    return signalfd(-1, &forwarded, SFD_CLOEXEC);
}

void vs_forget_signals(int signals) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (signals >= 0) close(signals);
}

int vs_follow(struct vs_machine *m, int signals, struct vs_oom *oom) {
    struct pollfd p[3] = {{m->pidfd, POLLIN, 0}, {signals, POLLIN, 0}, {oom->fd, oom->events, 0}};
    struct vs_stat stat;
    int ended_by = 0;
    vs_oom_read(oom, m->parameters[0]); /* what happened before it was watched */
    while (!p[0].revents) {
        struct signalfd_siginfo info;
        p[2].fd = oom->fd;
        if (poll(p, 3, -1) < 0) continue;
        if (p[2].revents || p[0].revents) vs_oom_read(oom, m->parameters[0]);
        if (!p[1].revents) continue;
        if (read(signals, &info, sizeof info) != sizeof info || info.ssi_signo == SIGCHLD) continue;
        SYS(SYS_pidfd_send_signal, m->pidfd, info.ssi_signo, 0, 0);
        if (!vs_is_dropped(m->pid, (int)info.ssi_signo)) continue;
        ended_by = (int)info.ssi_signo;
        SYS(SYS_pidfd_send_signal, m->pidfd, SIGKILL, 0, 0);
    }
    if (vs_reap(m->pidfd, 0, &stat) < 0) return 125;
    if (ended_by) return 128 + ended_by;
    return stat.code == CLD_EXITED ? stat.status : 128 + stat.status;
}
