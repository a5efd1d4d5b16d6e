/* The loop of a machine that is run to its end. */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CHUNK    65536
#define DRAIN_NS 1000000000 /* after the end: for output that somebody outside still holds */

enum { EXIT, IN, OUT, ERR, POLLED };

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void vs_kill_all(struct vs_machine *m, int cgroup_slot) {
    struct vs_fault ignored;
    if (cgroup_slot != VS_NONE && m->slots[cgroup_slot] >= 0) {
        long fd =
            CALL(&ignored, SYS_openat, m->slots[cgroup_slot], "cgroup.kill", O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
            SYS(SYS_write, fd, "1", 1);
            SYS(SYS_close, fd);
        }
    }
    if (m->pidfd >= 0) SYS(SYS_pidfd_send_signal, m->pidfd, SIGKILL, 0, 0);
}

/* Read once; 0 at the end of the stream. What does not fit is thrown away. */
static int buffer_read(struct vs_buffer *b, int fd) {
    char waste[CHUNK / 4];
    size_t room = b->limit - b->size;
    if (b->capacity - b->size < CHUNK && room > b->capacity - b->size) {
        size_t grown = b->capacity ? b->capacity * 2 : CHUNK;
        char *data = realloc(b->data, grown);
        if (data) b->data = data, b->capacity = grown;
    }
    size_t free_space = b->capacity - b->size;
    if (free_space > room) free_space = room;
    ssize_t n =
        free_space ? read(fd, b->data + b->size, free_space) : read(fd, waste, sizeof waste);
    if (n > 0 && free_space) b->size += (size_t)n;
    if (n > 0 && !free_space) b->truncated = 1;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void drop(struct pollfd *p) {
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

static void feed(struct vs_capture *capture, struct pollfd *p) {
    ssize_t n = 0;
    if (capture->input_size) n = write(p->fd, capture->input, capture->input_size);
    if (n > 0) capture->input += n, capture->input_size -= (size_t)n;
    if (capture->input_size == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) drop(p);
}

static int poll_timeout(int64_t deadline) {
    if (deadline < 0) return -1;
    int64_t left = deadline - now_ns();
    if (left <= 0) return 0;
    return left > 3600000000000 ? 3600000 : (int)((left + 999999) / 1000000);
}

/* Until the process has ended and its output too. */
static void follow(struct vs_machine *m, struct vs_capture *capture, struct pollfd *p) {
    int64_t deadline = capture->timeout_ns < 0 ? -1 : now_ns() + capture->timeout_ns;
    while (p[EXIT].fd >= 0 || p[OUT].fd >= 0 || p[ERR].fd >= 0) {
        int ready = poll(p, POLLED, poll_timeout(deadline));
        if (ready < 0 && errno == EINTR && capture->interrupt(capture->interrupt_data)) {
            capture->interrupted = 1;
            vs_kill_all(m, capture->cgroup_slot);
        }
        if (ready == 0 && deadline >= 0 && now_ns() >= deadline) {
            if (p[EXIT].fd < 0) break; /* drained long enough */
            capture->timed_out = 1;
            vs_kill_all(m, capture->cgroup_slot);
            deadline = -1;
        }
        if (ready <= 0) continue;
        for (int i = OUT; i <= ERR; i++)
            if (p[i].revents && !buffer_read(&capture->output[i - OUT], p[i].fd)) drop(&p[i]);
        if (p[IN].revents) feed(capture, &p[IN]);
        if (p[EXIT].revents) {
            p[EXIT].fd = -1;
            drop(&p[IN]);
            vs_kill_all(m, capture->cgroup_slot);
            deadline = now_ns() + DRAIN_NS;
        }
    }
}

/* A pipe whose end `ours` does not block; the other goes to the child. */
static int make_pipe(const struct vs_capture *capture, int ours, struct pollfd *p, int *theirs) {
    int pair[2];
    struct vs_fault fault;
    if (vs_pipe(pair, &fault) < 0) return -fault.err;
    fcntl(pair[ours], F_SETFL, O_NONBLOCK);
    SYS(SYS_fchown, pair[0], capture->uid, capture->gid); /* for /dev/stdout; not ours to insist */
    p->fd = pair[ours];
    *theirs = pair[!ours];
    return 0;
}

static int open_streams(struct vs_machine *m, struct vs_capture *capture, struct pollfd *p,
                        int theirs[3]) {
    int ret = 0;
    if (capture->input) {
        ret = make_pipe(capture, 1, &p[IN], &theirs[0]);
    } else {
        theirs[0] = vs_above_standard(open("/dev/null", O_RDONLY | O_CLOEXEC));
        if (theirs[0] < 0) ret = -errno;
    }
    for (int i = 0; i < 2 && ret == 0 && capture->captures; i++)
        ret = make_pipe(capture, 0, &p[OUT + i], &theirs[1 + i]);
    for (int i = 0; i < 3; i++)
        if (theirs[i] >= 0) m->slots[i] = theirs[i];
    return ret;
}

int vs_capture_run(struct vs_machine *m, struct vs_capture *capture, int host_pidfd) {
    struct pollfd p[POLLED] = {{-1, POLLIN, 0}, {-1, POLLOUT, 0}, {-1, POLLIN, 0}, {-1, POLLIN, 0}};
    int theirs[3] = {-1, -1, -1};
    int ret = open_streams(m, capture, p, theirs);
    if (ret < 0) {
        capture->report = (struct vs_report){-1, {SYS_pipe2, -ret}};
    } else {
        ret = vs_launch(m, host_pidfd, &capture->report);
    }
    for (int i = 0; i < 3; i++)
        if (theirs[i] >= 0) close(theirs[i]);
    if (ret == 0) {
        p[EXIT].fd = m->pidfd;
        follow(m, capture, p);
        vs_reap(m->pidfd, 0, &capture->stat);
    }
    for (int i = IN; i < POLLED; i++) drop(&p[i]);
    return ret;
}

void vs_capture_free(struct vs_capture *capture) {
    for (int i = 0; i < 2; i++) free(capture->output[i].data);
}
