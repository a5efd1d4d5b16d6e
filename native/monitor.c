/* viscum-monitor FOLDER: launch the machine of a folder, and stay with it until it has ended for
 * good. What becomes of the launch goes to descriptor 3, as four words of 32 bits: 1 where the
 * machine runs, else 0; operation, system call and error number of what failed.
 *
 * viscum-monitor --adopt FOLDER: take over a machine whose monitor was lost.
 *
 * With --client before that, descriptor 4 is a client's connection from the begin. */
#include "group_file.h"
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define CLIENT      4
#define REPORT      3
#define FIRST_DELAY 100000000ll /* ns before the first restart; doubled for each that follows */
#define LAST_DELAY  60000000000ll
#define SETTLED     10000000000ll /* ns of life after which the next restart is a first one */
#define RELEASES    20            /* tries to launch while the last life's groups go away */

/* poll(2), not epoll(7): what is watched by epoll wakes it at each write, also while nobody waits,
 * and that costs a machine that writes line by line a sixth of its time. */
int vs_watch(struct vs_monitor *mon, int fd, unsigned events, unsigned source) {
    int i = 0;
    while (i < mon->watching && mon->watched[i].fd != fd) i++;
    if (i == VS_WATCHED) return -ENOSPC;
    if (i == mon->watching) mon->watching++;
    mon->watched[i] = (struct pollfd){fd, (short)events, 0};
    mon->sources[i] = source;
    return 0;
}

void vs_unwatch(struct vs_monitor *mon, int fd) {
    for (int i = 0; i < mon->watching; i++) {
        if (mon->watched[i].fd != fd) continue;
        mon->watched[i] = mon->watched[--mon->watching];
        mon->sources[i] = mon->sources[mon->watching];
        return;
    }
}

/* Once after `ns`, never for 0. Timers count monotonic time: a clock that jumps changes nothing. */
void vs_arm(int timer, int64_t ns) {
    struct itimerspec when = {.it_value = {ns / 1000000000, ns % 1000000000}};
    timerfd_settime(timer, 0, &when, NULL);
}

static void report_launch(int ok, const struct vs_report *report) {
    int32_t words[4] = {ok, report->index, report->fault.nr, report->fault.err};
    if (write(REPORT, words, sizeof words) < 0) errno = 0;
    close(REPORT);
}

static int read_group_file(struct vs_monitor *mon, int slot, const char *name, char *data,
                           size_t size) {
    if (slot == VS_NONE || mon->m.slots[slot] < 0) return -1;
    return vs_group_read(mon->m.slots[slot], name, data, size) < 0 ? -1 : 0;
}

int vs_is_paused(struct vs_monitor *mon) {
    char data[512];
    return read_group_file(mon, mon->set.kill_slot, "cgroup.events", data, sizeof data) == 0 &&
           strstr(data, "frozen 1") != NULL;
}

static int was_out_of_memory(struct vs_monitor *mon) {
    char data[1024];
    if (read_group_file(mon, mon->set.oom_slot, mon->set.oom_file, data, sizeof data) < 0) return 0;
    char *count = strstr(data, "oom_kill ");
    return count && atoi(count + 9) > 0;
}

/* The first process of the machine whose namespaces this one shares; -1 where it does not run. */
static int open_target(struct vs_monitor *mon) {
    size_t size;
    long long pid = 0, start = 0;
    int folder = open(mon->set.target, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
    char *json = folder < 0 ? NULL : vs_read_file(folder, "status.json", &size);
    if (json && vs_status_number(json, "pid", &pid) == 0 && pid > 0)
        fd = vs_above_standard((int)SYS(SYS_pidfd_open, pid, 0));
    if (fd >= 0 && (vs_status_number(json, "start", &start) < 0 ||
                    (unsigned long long)start != vs_start_time(pid))) {
        close(fd); /* the pid is another process's by now */
        fd = -1;
    }
    free(json);
    if (folder >= 0) close(folder);
    return fd;
}

static int try_launch(struct vs_monitor *mon, struct vs_report *report) {
    int ret = 0;
    vs_machine_init(&mon->m, &mon->plan);
    mon->m.parameters[0] = mon->set.group;
    if (mon->set.target[0]) {
        mon->m.slots[VS_TARGET] = open_target(mon);
        if (mon->m.slots[VS_TARGET] < 0) ret = -ESRCH;
    }
    if (ret == 0) ret = vs_streams_open(mon);
    if (ret < 0) *report = (struct vs_report){-1, {SYS_pidfd_open, -ret}};
    if (ret == 0) ret = vs_launch(&mon->m, mon->self, report);
    vs_streams_hand_over(mon);
    if (ret < 0) vs_streams_close(mon);
    if (mon->m.slots[VS_TARGET] >= 0) close(mon->m.slots[VS_TARGET]);
    mon->m.slots[VS_TARGET] = -1;
    return ret;
}

static int launch(struct vs_monitor *mon, struct vs_report *report) {
    int ret = -EEXIST;
    for (int try = 0; try < RELEASES && ret == -EEXIST; try++) {
        if (try) usleep(10000);
        ret = try_launch(mon, report);
    }
    if (ret < 0) return ret;
    mon->running = 1;
    mon->code = -1;
    mon->signal = mon->oom = mon->killing = 0;
    mon->error[0] = 0;
    mon->started = vs_epoch_ns();
    mon->started_clock = vs_clock_ns();
    mon->finished = 0;
    vs_streams_started(mon);
    vs_keeper_start(mon);
    vs_health_start(mon);
    vs_lack_start(mon, 0);
    vs_watch(mon, mon->m.pidfd, POLLIN, VS_ON_EXIT);
    vs_status_write(mon, "running");
    vs_event(mon, "start", "");
    mon->killing = mon->set.timeout_ms > 0;
    vs_arm(mon->timer, mon->set.timeout_ms * 1000000ll);
    return 0;
}

static int restarts(struct vs_monitor *mon) {
    if (mon->stopping || mon->set.restart == RESTART_NO) return 0;
    if (mon->set.restart == RESTART_ALWAYS) return 1;
    return mon->code != 0 && (!mon->set.restart_max || mon->restarts < mon->set.restart_max);
}

static void schedule(struct vs_monitor *mon) {
    int64_t delay = FIRST_DELAY;
    if (vs_clock_ns() - mon->started_clock >= SETTLED) mon->restarts = 0;
    for (int i = 0; i < mon->restarts && delay < LAST_DELAY; i++) delay *= 2;
    mon->restarts++;
    vs_status_write(mon, "restarting");
    vs_arm(mon->timer, delay < LAST_DELAY ? delay : LAST_DELAY);
}

/* Field 52 of /proc/PID/stat: how a process ended that nobody has waited for yet. */
static void ask_stat(long pid, struct vs_stat *stat) {
    char data[1024], path[48];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof data - 1);
    if (fd >= 0) close(fd);
    data[n > 0 ? n : 0] = 0;
    char *at = strrchr(data, ')'), *last = strrchr(data, ' ');
    if (!at || at[2] != 'Z' || !last) return;
    int code = atoi(last);
    stat->code = code & 0x7f ? CLD_KILLED : CLD_EXITED;
    stat->status = code & 0x7f ? code & 0x7f : code >> 8 & 0xff;
}

/* A machine that was taken over is somebody else's child: it is asked how it ended. */
static void reap(struct vs_monitor *mon, struct vs_stat *stat) {
    int ret = vs_reap(mon->m.pidfd, 0, stat);
    for (int try = 0; ret == -ECHILD && !stat->code && try < RELEASES; try++) {
        ask_stat(mon->m.pid, stat);
        if (!stat->code) usleep(10000);
        if (!stat->code) ret = vs_reap(mon->m.pidfd, 0, stat);
    }
}

/* The machine has ended: its output is read to the end, its groups go, and its status stands. */
static void ended(struct vs_monitor *mon) {
    char attributes[64];
    struct vs_stat stat;
    vs_unwatch(mon, mon->m.pidfd);
    vs_health_stop(mon);
    if (mon->lack.fd >= 0) vs_lack_ready(mon);
    vs_lack_stop(mon);
    vs_kill_all(&mon->m, mon->set.kill_slot);
    reap(mon, &stat);
    mon->oom = was_out_of_memory(mon);
    vs_streams_drain(mon);
    vs_keeper_end(mon);
    vs_streams_close(mon);
    vs_release(&mon->m);
    mon->running = 0;
    mon->finished = vs_epoch_ns();
    mon->signal = stat.code == CLD_KILLED || stat.code == CLD_DUMPED ? stat.status : 0;
    mon->code = !stat.code ? -1 : mon->signal ? 128 + mon->signal : stat.status;
    snprintf(attributes, sizeof attributes, "\"code\":%d,\"signal\":%d,\"oom\":%d", mon->code,
             mon->signal, mon->oom);
    if (mon->oom && !mon->lack.kills) vs_event(mon, "oom", "\"action\":\"killed\"");
    vs_event(mon, "die", attributes);
}

/* --rm: what has ended goes, with a command that knows how; it takes this process's place. */
static void clean(struct vs_monitor *mon) {
    char *words[] = {mon->set.cleaner, "-P", "-m", "viscum", "rm", "-f", "-v", mon->set.id, NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setenv("VISCUM_DATA", mon->set.data, 1);
    setenv("VISCUM_RUN", mon->set.run, 1);
    execv(words[0], words);
}

static void leave(struct vs_monitor *mon) {
    vs_status_write(mon, "exited");
    unlinkat(mon->folder, "ctl", 0);
    vs_clients_end(mon, mon->code);
    if (mon->set.cleaner[0]) clean(mon);
    exit(mon->code >= 0 ? mon->code & 255 : 0); /* for a service manager */
}

static void go_on(struct vs_monitor *mon) {
    ended(mon);
    if (!restarts(mon)) leave(mon);
    schedule(mon);
}

static void start_again(struct vs_monitor *mon) {
    struct vs_report report;
    if (launch(mon, &report) == 0) return;
    mon->code = 125;
    mon->finished = vs_epoch_ns();
    snprintf(mon->error, sizeof mon->error, "operation %d: %s", report.index,
             strerror(report.fault.err));
    if (!restarts(mon)) leave(mon);
    schedule(mon);
}

/* Asked to end: first with a signal, after `patience_ns` by force. */
void vs_stop(struct vs_monitor *mon, int number, int64_t patience_ns) {
    mon->stopping = 1;
    if (!mon->running) leave(mon);
    vs_status_write(mon, "running");
    if (number > 0) SYS(SYS_pidfd_send_signal, mon->m.pidfd, number, 0, 0);
    if (patience_ns < 0) return;
    if (vs_is_dropped(mon->m.pid, number)) patience_ns = 0;
    mon->killing = 1;
    vs_arm(mon->timer, patience_ns ? patience_ns : 1);
}

static void on_timer(struct vs_monitor *mon) {
    if (mon->running && mon->killing) vs_kill_all(&mon->m, mon->set.kill_slot);
    if (!mon->running) start_again(mon);
}

static void on_signal(struct vs_monitor *mon) {
    struct signalfd_siginfo info;
    if (read(mon->signals, &info, sizeof info) != sizeof info) return;
    vs_stop(mon, mon->set.stop_signal, mon->set.stop_timeout_ms * 1000000ll);
}

static void dispatch(struct vs_monitor *mon, unsigned source, unsigned events) {
    uint64_t expired;
    int timer = source == VS_ON_TIMER          ? mon->timer
                : source == VS_ON_RATE         ? mon->rate_timer
                : source == VS_ON_HEALTH_TIMER ? mon->health.timer
                                               : -1;
    if (timer >= 0 && read(timer, &expired, sizeof expired) < 0) return;
    switch (source) {
    case VS_ON_EXIT: go_on(mon); break;
    case VS_ON_OUTPUT:
    case VS_ON_ERRORS: vs_streams_read(mon, (int)source); break;
    case VS_ON_TERMINAL:
        if (events & POLLOUT) vs_input_ready(mon);
        if (events & ~(unsigned)POLLOUT) vs_streams_read(mon, (int)source);
        break;
    case VS_ON_INPUT: vs_input_ready(mon); break;
    case VS_ON_LISTEN: vs_clients_accept(mon); break;
    case VS_ON_SIGNAL: on_signal(mon); break;
    case VS_ON_TIMER: on_timer(mon); break;
    case VS_ON_RATE: vs_streams_refill(mon); break;
    case VS_ON_HEALTH_TIMER: vs_health_timer(mon); break;
    case VS_ON_HEALTH_EXIT: vs_health_exit(mon); break;
    case VS_ON_LACK: vs_lack_ready(mon); break;
    default: vs_clients_receive(mon, (int)(source - VS_ON_CLIENT), events);
    }
}

/* What handles one event may change what is watched: of the others, those count that are still
 * there and were not closed meanwhile, which reading without waiting tells. */
static void serve(struct vs_monitor *mon) {
    for (;;) {
        if (poll(mon->watched, (nfds_t)mon->watching, -1) <= 0) continue;
        for (int i = mon->watching - 1; i >= 0; i--) {
            if (i >= mon->watching || !mon->watched[i].revents) continue;
            unsigned events = (unsigned)mon->watched[i].revents;
            mon->watched[i].revents = 0;
            dispatch(mon, mon->sources[i], events);
        }
    }
}

static int open_all(struct vs_monitor *mon) {
    static const int ending[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    sigset_t all, ends;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&ends);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) sigaddset(&ends, ending[i]);
    mon->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    mon->rate_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    mon->signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    mon->self = vs_above_standard((int)SYS(SYS_pidfd_open, getpid(), 0));
    mon->output[0] = mon->output[1] = mon->input = mon->terminal = mon->keeper = -1;
    if (mon->timer < 0 || mon->rate_timer < 0 || mon->signals < 0) return -errno;
    int ret = vs_settings_read(&mon->set, mon->folder);
    mon->rate_left = mon->set.log_rate / 10 + 1;
    if (ret == 0) ret = vs_watch(mon, mon->timer, POLLIN, VS_ON_TIMER);
    if (ret == 0) ret = vs_watch(mon, mon->rate_timer, POLLIN, VS_ON_RATE);
    if (ret == 0) ret = vs_watch(mon, mon->signals, POLLIN, VS_ON_SIGNAL);
    if (ret == 0) ret = vs_log_open(&mon->log, mon->folder, &mon->set);
    if (ret == 0) ret = vs_health_open(mon);
    if (ret == 0) ret = vs_clients_listen(mon);
    return ret;
}

/* What a plan takes up is kept for restarts: it is mapped, not copied. */
static int load(struct vs_monitor *mon, struct vs_report *report) {
    size_t size;
    char *bytes = vs_read_file(mon->folder, "plan", &size);
    *report = (struct vs_report){-1, {0, errno}};
    if (!bytes || vs_plan_decode(&mon->plan, bytes, size, report) < 0) return -1;
    return vs_plan_load(&mon->plan, report);
}

/* Leave the process that started us, its session, folder, streams and descriptors. */
static void detach(int has_client) {
    pid_t pid = fork();
    if (pid != 0) _exit(pid < 0 ? 125 : 0);
    setsid();
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd);
    SYS(SYS_close_range, REPORT + 1 + has_client, ~0u, 0);
    fcntl(REPORT, F_SETFD, FD_CLOEXEC);
    if (has_client) fcntl(CLIENT, F_SETFD, FD_CLOEXEC);
    umask(077);
    prctl(PR_SET_NAME, "viscum-monitor");
}

int main(int argc, char **argv) {
    static struct vs_monitor mon;
    struct vs_report report = {-1, {0, 0}};
    int has_client = argc > 2 && !strcmp(argv[1], "--client");
    int adopts = argc > 2 && !strcmp(argv[1 + has_client], "--adopt");
    if (argc != 2 + has_client + adopts) return 125;
    detach(has_client);
    mon.folder = open(argv[argc - 1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (mon.folder < 0) report.fault = (struct vs_fault){SYS_openat, errno};
    if (mon.folder >= 0 && chdir("/") == 0) {
        int ret = load(&mon, &report);
        if (ret == 0) ret = open_all(&mon);
        if (ret == 0 && has_client) ret = vs_clients_add(&mon, CLIENT);
        if (ret < 0 && !report.fault.err) report.fault = (struct vs_fault){SYS_openat, -ret};
        if (ret == 0 && has_client) vs_clients_receive(&mon, 0, POLLIN); /* its wish for output */
        if (ret == 0 && adopts) ret = vs_adopt_machine(&mon);
        if (ret == 0 && !adopts) ret = launch(&mon, &report);
        if (ret == 0) {
            report_launch(1, &report);
            serve(&mon);
        }
        if (!report.fault.err) report.fault.err = -ret;
    }
    report_launch(0, &report);
    return 125;
}
