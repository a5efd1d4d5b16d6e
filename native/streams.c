/* The machine's standard streams. What it writes comes over pipes that it holds open for reading
 * too: where its monitor is lost it does not end for that, and loses nothing until the pipes are
 * full. A terminal's master is this process's alone. */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FLOOD_NS  50000 /* between two reads of a machine that writes without a pause */
#define GATHER_NS 50000 /* in which a writer of lines fills about a seventh of a pipe */
#define DRAIN_MAX                                                                                  \
    (64 << 20) /* of what is still in pipes and terminals once the machine has ended */

static char buffer[VS_READ_SIZE];

/* Open a pipe once more, for both directions: the one at `fd` stays as it is. */
static int open_again(int fd, int flags) {
    char path[48];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return vs_above_standard(open(path, O_RDWR | O_CLOEXEC | flags));
}

/* Our end of an output; the machine's is opened anew, so that only ours does not block. */
static int open_pipe(struct vs_monitor *mon, int index) {
    struct vs_fault fault;
    int ends[2];
    if (vs_pipe(ends, &fault) < 0) return -fault.err;
    mon->output[index] = open_again(ends[1], O_NONBLOCK);
    SYS(SYS_fchown, ends[1], mon->set.uid, mon->set.gid); /* for /dev/stdout */
    close(ends[0]);
    close(ends[1]);
    return mon->output[index] < 0 ? -EMFILE : 0;
}

/* Open all that a launch needs. */
int vs_streams_open(struct vs_monitor *mon) {
    int ends[2], ret = 0;
    struct vs_fault fault;
    mon->pending_size = 0;
    mon->close_input = 0;
    if (mon->set.terminal_slot != VS_NONE) return 0;
    for (int i = 0; i < 2 && ret == 0; i++) {
        if (mon->output[i] < 0) ret = open_pipe(mon, i);
        if (ret == 0) ret = vs_watch(mon, mon->output[i], POLLIN, VS_ON_OUTPUT + (unsigned)i);
    }
    if (ret < 0) return ret;
    if (mon->set.interactive) {
        if (vs_pipe(ends, &fault) < 0) return -fault.err;
        SYS(SYS_fchown, ends[0], mon->set.uid, mon->set.gid); /* for /dev/stdin */
        mon->input = ends[1];
        mon->m.slots[VS_STDIN] = ends[0];
        fcntl(mon->input, F_SETFL, O_NONBLOCK);
    } else {
        mon->m.slots[VS_STDIN] = vs_above_standard(open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    mon->m.slots[VS_STDOUT] = open_again(mon->output[0], 0);
    mon->m.slots[VS_STDERR] = open_again(mon->output[1], 0);
    return mon->m.slots[VS_STDOUT] < 0 || mon->m.slots[VS_STDERR] < 0 ? -EMFILE : 0;
}

static int receive_terminal(int near) {
    char byte;
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    int fd = -1;
    if (recvmsg(near, &message, MSG_CMSG_CLOEXEC) <= 0) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return vs_above_standard(fd);
}

/* The launch is over: the machine's ends are its own, or nobody's. */
void vs_streams_hand_over(struct vs_monitor *mon) {
    if (mon->set.terminal_slot != VS_NONE) return;
    for (int i = VS_STDIN; i <= VS_STDERR; i++)
        if (mon->m.slots[i] > VS_STDERR) close(mon->m.slots[i]);
}

int vs_streams_started(struct vs_monitor *mon) {
    if (mon->set.terminal_slot == VS_NONE)
        return mon->input < 0 ? 0 : vs_watch(mon, mon->input, 0, VS_ON_INPUT);
    mon->terminal = receive_terminal(mon->m.slots[mon->set.terminal_slot]);
    if (mon->terminal < 0) return -EBADF;
    fcntl(mon->terminal, F_SETFL, O_NONBLOCK);
    return vs_watch(mon, mon->terminal, POLLIN, VS_ON_TERMINAL);
}

void vs_streams_close(struct vs_monitor *mon) {
    int *ends[] = {&mon->input, &mon->terminal};
    for (int i = 0; i < 2; i++) {
        if (*ends[i] < 0) continue;
        vs_unwatch(mon, *ends[i]);
        close(*ends[i]);
        *ends[i] = -1;
    }
    mon->pending_size = 0;
}

static void pass_on(struct vs_monitor *mon, int stream, size_t size) {
    vs_clients_send(mon, stream ? 'e' : 'o', buffer, size);
    vs_log_add(&mon->log, stream, buffer, size);
}

/* Within --log-opt max-rate: what is above waits in the pipe, and the machine with it. */
static size_t allowed(struct vs_monitor *mon) {
    if (!mon->set.log_rate) return sizeof buffer;
    return mon->rate_left < sizeof buffer ? (size_t)mon->rate_left : sizeof buffer;
}

static void pause_reading(struct vs_monitor *mon) {
    for (int i = 0; i < 2; i++)
        if (mon->output[i] >= 0) vs_watch(mon, mon->output[i], 0, VS_ON_OUTPUT + (unsigned)i);
    if (mon->terminal >= 0) vs_watch(mon, mon->terminal, 0, VS_ON_TERMINAL);
    vs_arm(mon->rate_timer, 100000000);
}

/* A tenth of a second has passed since the allowance was used up. */
void vs_streams_refill(struct vs_monitor *mon) {
    mon->rate_left = mon->set.log_rate / 10 + 1;
    for (int i = 0; i < 2; i++)
        if (mon->output[i] >= 0) vs_watch(mon, mon->output[i], POLLIN, VS_ON_OUTPUT + (unsigned)i);
    if (mon->terminal >= 0)
        vs_watch(mon, mon->terminal, POLLIN | (mon->pending_size ? POLLOUT : 0), VS_ON_TERMINAL);
}

static int fd_of(const struct vs_monitor *mon, int source) {
    return source == VS_ON_TERMINAL ? mon->terminal : mon->output[source - VS_ON_OUTPUT];
}

/* A machine that writes without a pause, line by line, would wake this process at every few lines:
 * it is left alone for a moment, in which lines gather. What comes in blocks, or rarely, is read at
 * once. The sleep must be short: with the default slack of timers it would be twice as long. */
static void gather(struct vs_monitor *mon, size_t size) {
    int64_t now = vs_clock_ns();
    if (size < sizeof buffer / 4 && now - mon->last_read < FLOOD_NS) {
        prctl(PR_SET_TIMERSLACK, 1);
        nanosleep(&(struct timespec){0, GATHER_NS}, NULL);
        prctl(PR_SET_TIMERSLACK, 0);
        now = vs_clock_ns();
    }
    mon->last_read = now;
}

void vs_streams_read(struct vs_monitor *mon, int source) {
    size_t room = allowed(mon);
    int fd = fd_of(mon, source);
    if (fd < 0) return;
    if (!room) {
        pause_reading(mon);
        return;
    }
    ssize_t n = read(fd, buffer, room);
    if (n > 0) {
        if (mon->set.log_rate) mon->rate_left -= (size_t)n;
        pass_on(mon, source == VS_ON_ERRORS, (size_t)n);
        gather(mon, (size_t)n);
    } else if (source == VS_ON_TERMINAL && n < 0 && errno != EAGAIN && errno != EINTR) {
        vs_unwatch(mon, fd); /* everybody has closed the terminal */
    }
}

/* What the machine wrote before it ended. */
void vs_streams_drain(struct vs_monitor *mon) {
    for (int source = VS_ON_OUTPUT; source <= VS_ON_TERMINAL; source++) {
        size_t total = 0;
        ssize_t n;
        int fd = fd_of(mon, source);
        while (fd >= 0 && total < DRAIN_MAX && (n = read(fd, buffer, sizeof buffer)) > 0) {
            pass_on(mon, source == VS_ON_ERRORS, (size_t)n);
            total += (size_t)n;
        }
    }
    vs_log_end(&mon->log);
}
