/* Health checks: a command that is run in the machine now and then. It is "healthy" once one has
 * succeeded, "unhealthy" after so many failures in a row. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MS 1000000ll

int vs_health_open(struct vs_monitor *mon) {
    struct vs_health *h = &mon->health;
    struct vs_report report;
    size_t size;
    h->output = -1;
    h->timer = -1;
    if (mon->set.health_interval_ms <= 0) return 0;
    h->bytes = vs_read_file(mon->folder, "health.plan", &size);
    if (!h->bytes || vs_plan_decode(&h->plan, h->bytes, size, &report) < 0) return -EINVAL;
    h->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    h->has_plan = 1;
    return h->timer < 0 ? -errno : vs_watch(mon, h->timer, POLLIN, VS_ON_HEALTH_TIMER);
}

static void set_status(struct vs_monitor *mon, const char *status) {
    char attributes[64];
    if (!strcmp(mon->health.status, status)) return;
    strcpy(mon->health.status, status);
    snprintf(attributes, sizeof attributes, "\"health\":\"%s\"", status);
    vs_event(mon, "health_status", attributes);
}

void vs_health_start(struct vs_monitor *mon) {
    if (!mon->health.has_plan) return;
    mon->health.failing = 0;
    strcpy(mon->health.status, "starting");
    vs_arm(mon->health.timer, mon->set.health_interval_ms * MS);
}

static void finish(struct vs_monitor *mon, struct vs_stat *stat) {
    struct vs_health *h = &mon->health;
    SYS(SYS_pidfd_send_signal, h->m.pidfd, SIGKILL, 0, 0);
    vs_reap(h->m.pidfd, 0, stat);
    vs_unwatch(mon, h->m.pidfd);
    vs_release(&h->m);
    vs_plan_unload(&h->plan);
    h->active = 0;
}

/* The machine has ended, or is about to: its processes must be reaped for it to be gone. */
void vs_health_stop(struct vs_monitor *mon) {
    struct vs_stat ignored;
    if (!mon->health.has_plan) return;
    vs_arm(mon->health.timer, 0);
    if (mon->health.active) finish(mon, &ignored);
    if (mon->health.output >= 0) close(mon->health.output);
    mon->health.output = -1;
}

/* Hex, since the output is anything; the reader decodes it. */
static void write_result(struct vs_monitor *mon, int code, int64_t ended) {
    struct vs_health *h = &mon->health;
    static char data[2 * sizeof h->text + 512];
    int n = snprintf(data, sizeof data,
                     "{\"status\":\"%s\",\"failing\":%d,\"begun\":%lld,\"ended\":%lld,"
                     "\"code\":%d,\"output\":\"",
                     h->status, h->failing, (long long)h->begun, (long long)ended, code);
    for (size_t i = 0; i < h->used; i++, n += 2)
        snprintf(data + n, 3, "%02x", (unsigned char)h->text[i]);
    n += snprintf(data + n, sizeof data - (size_t)n, "\"}\n");
    vs_write_whole(mon->folder, "health.json", data, (size_t)n);
}

static void read_output(struct vs_health *h) {
    char waste[4096];
    ssize_t n;
    do {
        size_t room = sizeof h->text - h->used;
        n = read(h->output, room ? h->text + h->used : waste, room ? room : sizeof waste);
        if (n > 0 && room) h->used += (size_t)n;
    } while (n > 0);
    close(h->output);
    h->output = -1;
}

static void judge(struct vs_monitor *mon, int code) {
    struct vs_health *h = &mon->health;
    int64_t ended = vs_epoch_ns();
    int64_t age = vs_clock_ns() - mon->started_clock;
    if (code == 0) {
        h->failing = 0;
        set_status(mon, "healthy");
    } else if (strcmp(h->status, "starting") != 0 || age > mon->set.health_start_ms * MS) {
        if (++h->failing >= mon->set.health_retries) set_status(mon, "unhealthy");
    }
    write_result(mon, code, ended);
    vs_status_write(mon, "running");
    vs_arm(h->timer, mon->set.health_interval_ms * MS);
}

static int launch(struct vs_monitor *mon) {
    struct vs_health *h = &mon->health;
    struct vs_report report;
    struct vs_fault fault;
    int ends[2];
    if (vs_plan_load(&h->plan, &report) < 0) return -1;
    vs_machine_init(&h->m, &h->plan);
    h->m.parameters[0] = mon->set.group;
    if (vs_pipe(ends, &fault) < 0) return -1;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    SYS(SYS_fchown, ends[1], mon->set.uid, mon->set.gid);
    int null = vs_above_standard(open("/dev/null", O_RDONLY | O_CLOEXEC));
    h->m.slots[VS_STDIN] = null;
    h->m.slots[VS_STDOUT] = h->m.slots[VS_STDERR] = ends[1];
    h->m.slots[VS_TARGET] = mon->m.pidfd;
    int ret = vs_launch(&h->m, mon->self, &report);
    close(null);
    close(ends[1]);
    h->output = ends[0];
    return ret;
}

/* Begin a check, or end one that takes too long. */
void vs_health_timer(struct vs_monitor *mon) {
    struct vs_health *h = &mon->health;
    if (!mon->running) return;
    if (h->active) {
        h->timed_out = 1;
        SYS(SYS_pidfd_send_signal, h->m.pidfd, SIGKILL, 0, 0);
        return;
    }
    if (vs_is_paused(mon)) {
        vs_arm(h->timer, mon->set.health_interval_ms * MS);
        return;
    }
    h->used = 0;
    h->timed_out = 0;
    h->begun = vs_epoch_ns();
    if (launch(mon) < 0) {
        if (h->output >= 0) close(h->output);
        h->output = -1;
        vs_plan_unload(&h->plan);
        judge(mon, 127);
        return;
    }
    h->active = 1;
    vs_watch(mon, h->m.pidfd, POLLIN, VS_ON_HEALTH_EXIT);
    vs_arm(h->timer, mon->set.health_timeout_ms * MS);
}

void vs_health_exit(struct vs_monitor *mon) {
    struct vs_stat stat;
    if (!mon->health.active) return;
    finish(mon, &stat);
    read_output(&mon->health);
    int code = stat.code == CLD_EXITED ? stat.status : 128 + stat.status;
    judge(mon, mon->health.timed_out ? 124 : code);
}
