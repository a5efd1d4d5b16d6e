/* enter PID COUNT: the bare cost of a command in a running machine. COUNT times, a child enters the
 * namespaces of process PID, forks there for the pid namespace, and executes /bin/true; prints the
 * nanoseconds of each, until all of it was reaped. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void enter(int pidfd) {
    char *argv[] = {"true", NULL}, *environment[] = {NULL};
    int status = 127;
    if (setns(pidfd, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                         CLONE_NEWUTS | CLONE_NEWCGROUP) == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            execve("/bin/true", argv, environment);
            _exit(127);
        }
        waitpid(pid, &status, 0);
        status = WEXITSTATUS(status);
    }
    _exit(status);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int pidfd = (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0);
    for (int i = atoi(argv[2]); i > 0; i--) {
        int status = 0;
        long long begin = now();
        pid_t pid = fork();
        if (pid == 0) enter(pidfd);
        waitpid(pid, &status, 0);
        printf("%lld\n", now() - begin);
        if (status) return 1;
    }
    return 0;
}
