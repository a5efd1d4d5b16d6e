/* Reading the files of control groups of both versions into figures; no Python here. */
#include "meter.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_SIZE    16384 /* io.stat has a line for each device, memory.stat 60 */
#define MAX_THREADS  8
#define ROWS_AT_ONCE 8 /* that a thread takes: about 0.3 ms */

typedef void reader(const char *text, double *figures);

static const char *skip_word(const char *p) {
    while (*p && *p != ' ' && *p != '\n') p++;
    return p;
}

static double number(const char *p) {
    double value = 0;
    while (*p >= '0' && *p <= '9') value = value * 10 + (*p++ - '0');
    if (*p == '.')
        for (double unit = 0.1; *++p >= '0' && *p <= '9'; unit /= 10) value += unit * (*p - '0');
    return value;
}

/* A figure that a line `name number` adds to, in units of `scale`. */
struct entry {
    const char *name;
    enum vs_figure figure;
    double scale;
};

static void read_entries(const char *p, double *figures, const struct entry *entries, size_t n) {
    while (*p) {
        const char *end = skip_word(p);
        size_t length = (size_t)(end - p);
        for (size_t i = 0; i < n; i++)
            if (!strncmp(p, entries[i].name, length) && !entries[i].name[length])
                figures[entries[i].figure] += number(end + (*end == ' ')) * entries[i].scale;
        p = strchr(end, '\n');
        if (!p) return;
        p++;
    }
}

#define ENTRIES(name, ...)                                                                         \
    static void name(const char *text, double *figures) {                                          \
        static const struct entry entries[] = {__VA_ARGS__};                                       \
        read_entries(text, figures, entries, sizeof entries / sizeof entries[0]);                  \
    }

#define ALONE(name, figure)                                                                        \
    static void name(const char *text, double *figures) { figures[figure] = number(text); }

/* Version 2, or the v2 group beside version 1. */
ENTRIES(cpu_time, {"usage_usec", VS_CPU_SECONDS, 1e-6}, {"user_usec", VS_USER_SECONDS, 1e-6},
        {"system_usec", VS_SYSTEM_SECONDS, 1e-6})
ENTRIES(cpu_v2, {"usage_usec", VS_CPU_SECONDS, 1e-6}, {"user_usec", VS_USER_SECONDS, 1e-6},
        {"system_usec", VS_SYSTEM_SECONDS, 1e-6}, {"nr_periods", VS_PERIODS, 1},
        {"nr_throttled", VS_THROTTLED_PERIODS, 1}, {"throttled_usec", VS_THROTTLED_SECONDS, 1e-6})
ENTRIES(cpu_v1, {"nr_periods", VS_PERIODS, 1}, {"nr_throttled", VS_THROTTLED_PERIODS, 1},
        {"throttled_time", VS_THROTTLED_SECONDS, 1e-9})
ENTRIES(oom, {"oom_kill", VS_OOM_KILLS, 1})
/* The working set is what is left of memory in use, which is read before. */
ENTRIES(stat_v1, {"total_inactive_file", VS_WORKING_SET, -1}, {"total_swap", VS_SWAP, 1},
        {"total_workingset_refault_anon", VS_REFAULTS, 1},
        {"total_workingset_refault_file", VS_REFAULTS, 1})
ENTRIES(stat_v2, {"inactive_file", VS_WORKING_SET, -1}, {"workingset_refault_anon", VS_REFAULTS, 1},
        {"workingset_refault_file", VS_REFAULTS, 1})
ALONE(peak, VS_PEAK)
ALONE(swap, VS_SWAP)
ALONE(pids, VS_PIDS)

static void memory(const char *text, double *figures) {
    figures[VS_MEMORY] = figures[VS_WORKING_SET] = number(text);
}

static void cpuacct(const char *text, double *figures) {
    figures[VS_CPU_SECONDS] = number(text) / 1e9;
}

/* some avg10=0.00 avg60=0.00 avg300=0.00 total=0 */
static void pressure(const char *p, double *figures) {
    for (int line = 0; line < 2 && *p; line++) {
        const char *average = strstr(p, "avg10="), *total = strstr(p, "total=");
        if (!average || !total) return;
        figures[line] = number(average + 6) / 100;
        figures[2 + line] = number(total + 6) / 1e6;
        p = strchr(total, '\n');
        if (!p) return;
        p++;
    }
}

static void cpu_pressure(const char *p, double *f) { pressure(p, f + VS_CPU_PRESSURE); }
static void memory_pressure(const char *p, double *f) { pressure(p, f + VS_MEMORY_PRESSURE); }
static void io_pressure(const char *p, double *f) { pressure(p, f + VS_IO_PRESSURE); }

/* 254:0 Read 4096 */
static void blkio(const char *p, double *figures, enum vs_figure read, enum vs_figure write) {
    for (; *p; p++) {
        const char *word = skip_word(p);
        if (!strncmp(word, " Read ", 6)) figures[read] += number(word + 6);
        if (!strncmp(word, " Write ", 7)) figures[write] += number(word + 7);
        p = strchr(word, '\n');
        if (!p) return;
    }
}

static void io_bytes_v1(const char *p, double *f) { blkio(p, f, VS_READ_BYTES, VS_WRITTEN_BYTES); }
static void io_count_v1(const char *p, double *f) { blkio(p, f, VS_READS, VS_WRITES); }

/* 254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0 */
static void io_v2(const char *p, double *figures) {
    static const struct entry entries[] = {{" rbytes=", VS_READ_BYTES, 1},
                                           {" wbytes=", VS_WRITTEN_BYTES, 1},
                                           {" rios=", VS_READS, 1},
                                           {" wios=", VS_WRITES, 1}};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        for (const char *at = p; (at = strstr(at, entries[i].name)); at++)
            figures[entries[i].figure] += number(at + strlen(entries[i].name));
}

/* By the numbers that `resources.meter` has for them. A row has its files in this order, so that
 * CPU time and memory in use are known before the statistics of memory, and operations before
 * bytes. */
enum kind {
    CPU_V1,
    CPU_V2,
    CPU_TIME,
    CPUACCT,
    MEMORY,
    STATISTICS_V1,
    STATISTICS_V2,
    PEAK,
    OOM,
    SWAP,
    PIDS,
    IO_COUNT_V1,
    IO_BYTES_V1,
    IO_V2,
    CPU_PRESSURE,
    MEMORY_PRESSURE,
    IO_PRESSURE,
};
static reader *const readers[VS_METER_KINDS] = {
    cpu_v1,     cpu_v2, cpu_time, cpuacct,     memory,      stat_v1, stat_v2,      peak,
    oom,        swap,   pids,     io_count_v1, io_bytes_v1, io_v2,   cpu_pressure, memory_pressure,
    io_pressure};

static ssize_t read_file(struct vs_row *row, int i, char *text) {
    int fd = row->fds[i] >= 0 ? row->fds[i] : open(row->paths[i], O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, text, FILE_SIZE - 1, 0);
    if (n < 0 && (errno == ENODEV || errno == ENOENT)) row->gone = 1;
    if (fd >= 0 && fd != row->fds[i]) close(fd);
    if (n >= 0) text[n] = 0;
    return n;
}

/* The kernel counts the bytes of an operation before the operation. */
static int same_operations(const double *now, const double *before) {
    return now[VS_READS] == before[VS_READS] && now[VS_WRITES] == before[VS_WRITES];
}

/* Most machines sleep most of the time, and reading costs the same for them. Nothing of a machine
 * has run while its CPU time is the same. Then, as long as its memory is the same too, most files
 * say what they said before; and no task of it has begun to wait for memory or for I/O, so that
 * these pressures are the same if they were at the last two readings. What others do to a machine
 * that sleeps is read each time: its memory, how long it waits for a CPU, and on version 2 what is
 * written back for it. */
static int still(const struct vs_row *row, const double *before, int kind) {
    if (!row->read) return 0;
    if (row->no_event >> kind & 1 && (kind == OOM || row->quiet >> kind & 1)) return 1;
    if (kind == IO_BYTES_V1) return same_operations(row->figures, before);
    if (!row->counts_cpu || kind < STATISTICS_V1 || kind == IO_V2) return 0;
    if (row->figures[VS_CPU_SECONDS] != before[VS_CPU_SECONDS]) return 0;
    if (kind == CPU_PRESSURE) return 0;
    if (kind == MEMORY_PRESSURE || kind == IO_PRESSURE) return row->quiet >> kind & 1;
    return row->figures[VS_MEMORY] == before[VS_MEMORY];
}

/* Which figures a kind of file has: the first one, and how many. */
static const struct {
    int first, count;
} kept[VS_METER_KINDS] = {
    [STATISTICS_V1] = {VS_WORKING_SET, 3}, /* with swap and refaults */
    [STATISTICS_V2] = {VS_WORKING_SET, 3},
    [PEAK] = {VS_PEAK, 1},
    [OOM] = {VS_OOM_KILLS, 1},
    [SWAP] = {VS_SWAP, 1},
    [PIDS] = {VS_PIDS, 1},
    [IO_BYTES_V1] = {VS_READ_BYTES, 2},
    [IO_COUNT_V1] = {VS_READS, 2},
    [MEMORY_PRESSURE] = {VS_MEMORY_PRESSURE, 4},
    [IO_PRESSURE] = {VS_IO_PRESSURE, 4},
};

static void keep(struct vs_row *row, const double *before, int kind) {
    memcpy(row->figures + kept[kind].first, before + kept[kind].first,
           (size_t)kept[kind].count * sizeof *before);
}

static void note_quiet(struct vs_row *row, const double *before, int kind) {
    int first = kind == IO_PRESSURE ? VS_IO_PRESSURE : VS_MEMORY_PRESSURE;
    int quiet =
        row->read && row->figures[first] == 0 && row->figures[first + 2] == before[first + 2];
    row->quiet = (row->quiet & ~(1 << kind)) | quiet << kind;
}

static void read_row(struct vs_row *row, char *text) {
    double before[VS_FIGURES];
    memcpy(before, row->figures, sizeof before);
    memset(row->figures, 0, sizeof row->figures);
    row->gone = 0;
    for (int i = 0; i < row->count; i++) {
        int kind = row->kinds[i];
        if (still(row, before, kind)) {
            keep(row, before, kind);
        } else if (read_file(row, i, text) >= 0) {
            readers[kind](text, row->figures);
            if (kind == MEMORY_PRESSURE || kind == IO_PRESSURE) note_quiet(row, before, kind);
        }
    }
    if (row->figures[VS_WORKING_SET] < 0) row->figures[VS_WORKING_SET] = 0;
    row->read = 1;
}

void vs_row_open(struct vs_row *row, int most) {
    for (int i = 0; i < row->count; i++) {
        int kind = row->kinds[i], fd = open(row->paths[i], O_RDONLY | O_CLOEXEC);
        row->counts_cpu |= kind == CPU_V2 || kind == CPU_TIME || kind == CPUACCT;
        if (fd >= most) {
            close(fd);
            fd = -1;
        }
        row->fds[i] = fd;
    }
}

void vs_row_close(struct vs_row *row) {
    for (int i = 0; i < row->count; i++) {
        if (row->fds[i] >= 0) close(row->fds[i]);
        free(row->paths[i]);
    }
    row->count = 0;
}

/* What threads share: each takes the next few rows until there are none. */
struct work {
    struct vs_row **rows;
    long count;
    atomic_long next;
};

static void *read_rows(void *data) {
    struct work *work = data;
    char text[FILE_SIZE];
    long from;
    while ((from = atomic_fetch_add(&work->next, ROWS_AT_ONCE)) < work->count)
        for (long i = from; i < work->count && i < from + ROWS_AT_ONCE; i++)
            read_row(work->rows[i], text);
    return NULL;
}

/* Read one figure of a file of the host; -1 where the file does not have the word it is at. */
static double host_figure(const char *path, const char *word, reader *read, enum vs_figure figure) {
    char text[FILE_SIZE];
    double figures[VS_FIGURES] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (fd >= 0) close(fd);
    text[n < 0 ? 0 : n] = 0;
    if (!strstr(text, word)) return -1;
    read(text, figures);
    return figures[figure];
}

static struct vs_host_figures host_figures(void) {
    return (struct vs_host_figures){
        host_figure("/proc/vmstat", "\noom_kill ", oom, VS_OOM_KILLS),
        host_figure("/proc/pressure/memory", "total=", memory_pressure, VS_MEMORY_PRESSURE + 2),
        host_figure("/proc/pressure/io", "total=", io_pressure, VS_IO_PRESSURE + 2),
    };
}

static int same(double now, double before) { return now >= 0 && now == before; }

/* No group has a new kill while the host has none: one that was counted for the host and not yet
 * for its group is found by the reading after, so two must have found the same. And in no group has
 * a task waited for memory or for I/O while on the host none has, to a microsecond on each CPU. */
static void note_events(struct vs_row **rows, long count) {
    struct vs_host_figures now = {-1, -1, -1};
    if (count >= ROWS_AT_ONCE) now = host_figures();
    for (long i = 0; i < count; i++) {
        struct vs_host_figures *before = rows[i]->host;
        int no_kill = same(now.kills, before[0].kills) && same(now.kills, before[1].kills);
        rows[i]->no_event = no_kill << OOM |
                            same(now.memory_stalled, before[0].memory_stalled) << MEMORY_PRESSURE |
                            same(now.io_stalled, before[0].io_stalled) << IO_PRESSURE;
        before[1] = before[0];
        before[0] = now;
    }
}

/* Let a new thread begin on another CPU. The kernel often leaves it behind its maker, which runs
 * on, although there is a CPU with nothing to do. */
static void begin_elsewhere(pthread_attr_t *attributes) {
    cpu_set_t cpus;
    int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(0, sizeof cpus, &cpus)) return;
    CPU_CLR(here, &cpus);
    if (CPU_COUNT(&cpus)) pthread_attr_setaffinity_np(attributes, sizeof cpus, &cpus);
}

void vs_meter_read(struct vs_row **rows, long count, int threads) {
    struct work work = {rows, count, 0};
    pthread_t started[MAX_THREADS];
    pthread_attr_t attributes;
    int others = 0;
    note_events(rows, count);
    pthread_attr_init(&attributes);
    if (threads > 1) begin_elsewhere(&attributes);
    while (others < threads - 1 && others < MAX_THREADS &&
           !pthread_create(&started[others], &attributes, read_rows, &work))
        others++;
    pthread_attr_destroy(&attributes);
    read_rows(&work);
    while (others) pthread_join(started[--others], NULL);
}
