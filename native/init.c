/* viscum-init: the first process of a machine that wants one (`--init`), or that has no command
 * of its own and waits for others to be executed in it (`--idle`).
 *
 *   viscum-init [--life FD] -- COMMAND [ARGUMENT…]   run it, forward signals, reap, exit as it did
 *   viscum-init [--life FD] --idle                   reap until killed
 *
 * With --life it ends, and with it the machine, when the process behind the pidfd FD has ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t start(char **argv, const sigset_t *mask) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    setsid();
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    _exit(errno == ENOENT ? 127 : 126);
}

/* Reap what has ended; the status of the command once it is among them, else -1. */
static int reap(pid_t command) {
    int status, result = -1;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == command)
            result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return result;
}

static int serve(int signals, int life, pid_t command) {
    struct pollfd p[2] = {{signals, POLLIN, 0}, {life, POLLIN, 0}};
    for (;;) {
        struct signalfd_siginfo info;
        if (poll(p, 2, -1) < 0) continue;
        if (p[1].revents) return 137;
        if (read(signals, &info, sizeof info) != sizeof info) continue;
        if (info.ssi_signo != SIGCHLD) {
            if (command > 0) kill(command, (int)info.ssi_signo);
            if (command <= 0 && (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)) return 143;
            continue;
        }
        int status = reap(command);
        if (status >= 0) return status;
    }
}

int main(int argc, char **argv) {
    int at = 1, life = -1, idle = 0;
    sigset_t all, old;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (!strcmp(argv[at], "--idle")) idle = 1;
        if (!strcmp(argv[at], "--life") && at + 1 < argc) life = atoi(argv[++at]);
    }
    if (!idle && at + 1 >= argc) return 125;
    prctl(PR_SET_NAME, "viscum-init");
    if (life >= 0) fcntl(life, F_SETFD, FD_CLOEXEC);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    int signals = signalfd(-1, &all, SFD_CLOEXEC);
    if (signals < 0) return 125;
    pid_t command = idle ? 0 : start(argv + at + 1, &old);
    return command < 0 ? 125 : serve(signals, life, command);
}
