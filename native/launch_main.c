/* viscum-launch FILE: run a compiled plan, with no Python. Also as a #! interpreter.
 * Ends as the machine's command does; 125 where it could not be launched, 126 and 127 as shells. */
#include "foreground.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (16 << 20)

static int complain(const char *file, const char *what) {
    fprintf(stderr, "viscum-launch: %s: %s\n", file, what);
    return 125;
}

/* Read the whole file; a first line that begins with #! is left out. */
static char *read_plan(const char *file, size_t *size) {
    struct stat is;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &is) < 0) {
        complain(file, strerror(errno));
        if (fd >= 0) close(fd);
        return NULL;
    }
    char *data =
        S_ISREG(is.st_mode) && is.st_size <= MAX_FILE ? malloc((size_t)is.st_size + 1) : NULL;
    ssize_t n = data ? read(fd, data, (size_t)is.st_size) : -1;
    close(fd);
    if (n < 0) {
        complain(file, "not a compiled plan (make one with: viscum plan -o FILE ...)");
        free(data);
        return NULL;
    }
    char *line = n > 2 && data[0] == '#' && data[1] == '!' ? memchr(data, '\n', (size_t)n) : NULL;
    size_t skip = line ? (size_t)(line + 1 - data) : 0;
    memmove(data, data + skip, (size_t)n - skip);
    *size = (size_t)n - skip;
    return data;
}

static const char *meaning(const struct vs_report *report) {
    if (report->fault.nr) return strerror(report->fault.err);
    switch (report->fault.err) {
    case EBADMSG: return "not a compiled plan, or damaged (compile it again)";
    case EPROTONOSUPPORT: return "the plan has another format (compile it again)";
    case EXDEV: return "the plan was made for another kernel or architecture (compile it again)";
    case ESTALE: return "a file of the plan was replaced since it was compiled (compile it again)";
    default: return strerror(report->fault.err);
    }
}

static int explain(const char *file, const struct vs_plan *plan, const struct vs_report *report) {
    const char *name = "plan";
    if (report->index >= 0 && (uint32_t)report->index < plan->count)
        name = vs_op_name(plan->ops[report->index].code);
    fprintf(stderr, "viscum-launch: %s: operation %d (%s): %s\n", file, report->index, name,
            meaning(report));
    if (report->fault.nr != SYS_execve && report->fault.nr != SYS_execveat) return 125;
    return report->fault.err == ENOENT ? 127 : 126;
}

int main(int argc, char **argv) {
    struct vs_plan plan;
    struct vs_machine m;
    struct vs_report report;
    char id[VS_ID_SIZE];
    size_t size;
    if (argc < 2) return complain("usage", "viscum-launch FILE");
    char *data = read_plan(argv[1], &size);
    if (!data) return 125;
    if (vs_plan_decode(&plan, data, size, &report) < 0) {
        plan.count = 0;
        return explain(argv[1], &plan, &report);
    }
    if (vs_plan_load(&plan, &report) < 0) return explain(argv[1], &plan, &report);
    int signals = vs_collect_signals();
    vs_machine_init(&m, &plan);
    vs_make_id(id);
    m.parameters[0] = id;
    int self = vs_above_standard((int)SYS(SYS_pidfd_open, getpid(), 0));
    if (vs_launch(&m, self, &report) < 0) return explain(argv[1], &plan, &report);
    struct vs_oom none = {.fd = -1, .log = -1};
    int status = vs_follow(&m, signals, &none);
    vs_release(&m);
    return status;
}
