/* viscum-oci-launch PLAN KIND FOLDER PID-FILE FLAGS TERMINAL BIN ROOT -- WORDS...
 *
 * What Python compiled is launched from here, in its place: this process is small, has nothing in
 * its memory that a container must not see, and runs from a sealed copy of its program. WORDS are
 * those of the command; where the launch fails, Python gets them again to explain it. */
#include "core.h"
#include "foreground.h"
#include "oci.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

struct order {
    int plan;
    const char *kind, *folder, *pid_file, *flags;
    unsigned terminal; /* the slot that our end of the terminal's socket is in */
};

static int flag(const struct order *order, char letter) {
    return strchr(order->flags, letter) != NULL;
}

static int explain(const struct oci_call *call, const struct order *order,
                   const struct vs_report *report) {
    char plan[16], index[16], number[16], error[16];
    snprintf(plan, sizeof plan, "%d", order->plan);
    snprintf(index, sizeof index, "%d", report->index);
    snprintf(number, sizeof number, "%d", report->fault.nr);
    snprintf(error, sizeof error, "%d", report->fault.err);
    const char *words[] = {"--explain", plan,        index,         number,
                           error,       order->kind, order->folder, NULL};
    fcntl(order->plan, F_SETFD, 0);
    return oci_python(call, words, 0);
}

static int open_plan(const struct order *order, struct vs_plan *plan, struct vs_report *report) {
    struct stat is = {0};
    fstat(order->plan, &is);
    char *data = mmap(NULL, (size_t)is.st_size + 1, PROT_READ, MAP_PRIVATE, order->plan, 0);
    if (data == MAP_FAILED) return vs_refuse(&report->fault, errno);
    int ret = vs_plan_decode(plan, data, (size_t)is.st_size, report);
    return ret < 0 ? ret : vs_plan_load(plan, report);
}

/* Beside the file and renamed, so that who waits for it never reads half of it. */
static int write_pid_file(const struct oci_call *call, const char *path, pid_t pid) {
    char beside[OCI_PATH], data[24];
    const char *name = strrchr(path, '/');
    int folder = name ? (int)(name + 1 - path) : 0;
    if (!*path) return 0;
    snprintf(beside, sizeof beside, "%.*s.%s", folder, path, path + folder);
    snprintf(data, sizeof data, "%d", pid);
    if (oci_write_file(AT_FDCWD, beside, data) == 0 && rename(beside, path) == 0) return 0;
    return oci_fail(call, "pid file %s: %s", path, strerror(errno));
}

static void forward(struct vs_machine *m, int signals, int master) {
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != sizeof info || info.ssi_signo == SIGCHLD) return;
    if (master >= 0 && info.ssi_signo == SIGWINCH)
        oci_terminal_resize(master);
    else
        SYS(SYS_pidfd_send_signal, m->pidfd, info.ssi_signo, 0, 0);
}

/* Stand by until the process ends: signals go in, a terminal's bytes both ways. */
static int follow(struct vs_machine *m, int signals, int master) {
    struct pollfd p[4] = {{m->pidfd, POLLIN, 0},
                          {signals, POLLIN, 0},
                          {master, POLLIN, 0},
                          {master >= 0 ? 0 : -1, POLLIN, 0}};
    struct vs_stat stat;
    while (!p[0].revents) {
        if (poll(p, 4, -1) < 0) continue;
        if (p[1].revents) forward(m, signals, master);
        if (!oci_terminal_carry(master, p[2].revents, 0)) p[2].fd = -1;
        if (!oci_terminal_carry(master, p[3].revents, 1)) p[3].fd = -1;
    }
    for (struct pollfd rest = p[2]; rest.fd >= 0 && poll(&rest, 1, 0) > 0;)
        if (!oci_terminal_carry(master, rest.revents, 0)) break;
    oci_terminal_end();
    if (vs_reap(m->pidfd, 0, &stat) < 0) return 1;
    return stat.code == CLD_EXITED ? stat.status : 128 + stat.status;
}

static int end_run(const struct oci_call *call, const struct order *order, const char *id) {
    struct oci_record record;
    if (flag(order, 'k')) return 0;
    if (oci_record_open(call, id, 1, &record) < 0) return 0;
    oci_remove(call, &record);
    oci_record_close(&record);
    return 0;
}

/* Close the fifo, as was given and as was loaded: who starts the container waits until it has gone
 * from everybody. */
static void leave_gate(struct vs_plan *plan) {
    uint64_t gate = plan->ops[plan->first[VS_EXEC]].arg[2];
    if (gate == VS_NONE) return;
    for (uint32_t i = 0; i < plan->first[VS_PREPARE]; i++)
        if (plan->ops[i].code == OP_inherit && plan->ops[i].arg[0] == gate)
            close((int)plan->ops[i].arg[1]);
    close(plan->slots[gate]);
    plan->slots[gate] = -1;
}

/* The container is there: write down its process, and let it go on where it was asked to run. */
static int settle(const struct oci_call *call, const struct order *order, struct vs_plan *plan,
                  struct vs_machine *m) {
    struct oci_record record;
    const char *id = strrchr(order->folder, '/') + 1;
    int folder = open(order->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || oci_write_pid(folder, m->pid) < 0)
        return oci_fail(call, "%s: %s", order->folder, strerror(errno));
    close(folder);
    if (write_pid_file(call, order->pid_file, m->pid)) return 1;
    if (!strcmp(order->kind, "create")) return 0;
    leave_gate(plan);
    if (oci_record_open(call, id, 1, &record) < 0)
        return oci_fail(call, "%s: %s", order->folder, strerror(errno));
    int code = oci_let_go(call, &record);
    oci_record_close(&record);
    return code;
}

static void undo(const struct oci_call *call, const struct order *order, struct vs_machine *m) {
    struct vs_stat ignored;
    SYS(SYS_pidfd_send_signal, m->pidfd, SIGKILL, 0, 0);
    vs_reap(m->pidfd, 0, &ignored);
    if (strcmp(order->kind, "exec")) end_run(call, order, strrchr(order->folder, '/') + 1);
}

static int launch(struct oci_call *call, const struct order *order) {
    static struct vs_plan plan;
    static struct vs_machine m;
    struct vs_report report = {.index = -1};
    if (open_plan(order, &plan, &report) < 0) return explain(call, order, &report);
    int self = vs_above_standard((int)SYS(SYS_pidfd_open, getpid(), 0));
    vs_machine_init(&m, &plan);
    m.parameters[0] = "viscum-oci";
    int stays = flag(order, 'f'), signals = stays ? vs_collect_signals() : -1;
    if (vs_launch(&m, self, &report) < 0) {
        if (stays) vs_forget_signals(signals);
        return explain(call, order, &report);
    }
    int code;
    if (strcmp(order->kind, "exec"))
        code = settle(call, order, &plan, &m);
    else
        code = write_pid_file(call, order->pid_file, m.pid) ? 255 : 0;
    if (code) undo(call, order, &m);
    if (code || !stays) return code;
    int master = order->terminal < VS_SLOTS ? oci_terminal_receive(m.slots[order->terminal]) : -1;
    if (master >= 0) oci_terminal_begin(master);
    code = follow(&m, signals, master);
    if (!strcmp(order->kind, "run")) end_run(call, order, strrchr(order->folder, '/') + 1);
    return code;
}

int oci_launch(struct oci_call *call, int argc, char **argv) {
    if (argc < 12 || strcmp(argv[11], "--")) return 1;
    struct order order = {atoi(argv[1]), argv[2], argv[3],
                          argv[4],       argv[5], (unsigned)atoi(argv[6])};
    call->bin = argv[7];
    call->root = argv[8];
    call->log = *argv[9] ? argv[9] : NULL;
    call->log_format = argv[10];
    call->argc = argc - 11; /* argv[11] stands where a command's name does */
    call->argv = argv + 11;
    return launch(call, &order);
}
