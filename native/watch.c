/* watch: one sweep over files of many groups, to learn where machines are held up. */
#include "module.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SMALL_FILE 512 /* cpu.pressure has 160 bytes, cpu.stat 100 to 300 */

/* The number that follows `word` in the text, or -1. */
static int64_t number_after(const char *text, const char *word) {
    const char *p = strstr(text, word);
    if (!p) return -1;
    int64_t value = 0;
    for (p += strlen(word); *p >= '0' && *p <= '9'; p++) value = value * 10 + (*p - '0');
    return value;
}

/* cpu.pressure: microseconds in which nothing of the group could run; its live value. cpu.stat:
 * periods in which the group was throttled. */
static int64_t held_up(int fd) {
    char text[SMALL_FILE];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n < 0) return -1;
    text[n] = 0;
    const char *full = strstr(text, "full ");
    if (full && strstr(text, "some ")) return number_after(full, "total=");
    return number_after(text, "nr_throttled ");
}

/* /proc/pressure/cpu: microseconds in which something of the host waited for a CPU. */
static int64_t host_waited(int fd) {
    char text[SMALL_FILE];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n < 0) return -1;
    text[n] = 0;
    return number_after(text, "total=");
}

/* What a machine uses beside its limit, as five doubles for Python: in microseconds the total and
 * the level, the level that is too high, and in CPUs the limit and what was used lately. */
struct vs_spending {
    double total, level, most, rate, lately;
};

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum outcome { QUIET, MOVED, STOPPED };

/* Look at the host's pressure every `tick` ms for at most `most` ms, until it moves by `least`
 * us in one tick, or `stop` becomes readable. */
static enum outcome wait_for_pressure(int fd, int stop, long long least, int tick, int most) {
    int64_t end = now_ms() + most, before = host_waited(fd);
    for (;;) {
        int64_t left = end - now_ms();
        if (left <= 0) return QUIET;
        struct pollfd p = {.fd = stop, .events = POLLIN};
        if (poll(&p, 1, left < tick ? (int)left : tick) > 0) return STOPPED;
        int64_t now = host_waited(fd);
        if (now >= before + least) return MOVED;
        before = now;
    }
}

/* wait_pressure(pressure, stop, least, tick, most): see the table in module.c. */
PyObject *vs_py_wait_pressure(PyObject *module, PyObject *args) {
    enum outcome outcome;
    int fd, stop, tick, most;
    long long least;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiLii:wait_pressure", &fd, &stop, &least, &tick, &most))
        return NULL;
    Py_BEGIN_ALLOW_THREADS outcome = wait_for_pressure(fd, stop, least, tick > 0 ? tick : 1, most);
    Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return NULL;
    return PyLong_FromLong(outcome);
}

/* Where the total rose by at least `least`, or cannot be read, its index goes to `found`. */
static Py_ssize_t sweep_totals(const int *fds, void *rows, Py_ssize_t n, double least, int *found) {
    int64_t *totals = rows;
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        int64_t now = held_up(fds[i]);
        if (now >= 0 && now < totals[i] + (int64_t)least) continue;
        totals[i] = now < 0 ? totals[i] : now;
        found[count++] = now < 0 ? (int)-i - 1 : (int)i;
    }
    return count;
}

static PyObject *as_list(const int *found, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *item = PyLong_FromLong(found[i]);
        if (!item || PyList_SetItem(list, i, item) < 0) Py_CLEAR(list);
    }
    return list;
}

/* cpu.stat of version 2, or cpuacct.usage: microseconds of CPU time that were used, or -1. */
static int64_t used_us(int fd) {
    char text[SMALL_FILE];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return -1;
    text[n] = 0;
    if (*text < '0' || *text > '9') return number_after(text, "usage_usec ");
    return number_after(text, "") / 1000;
}

/* What is used above `rate` fills a vessel, and what is not used lets it sink: where it rises
 * above `most`, the index goes to `found`. */
static Py_ssize_t sweep_use(const int *fds, void *rows, Py_ssize_t n, double elapsed, int *found) {
    struct vs_spending *all = rows;
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        struct vs_spending *s = &all[i];
        int64_t now = used_us(fds[i]);
        if (now < 0) continue;
        double used = s->total > 0 ? (double)now - s->total : 0;
        s->total = (double)now;
        s->lately = elapsed > 0 ? used / elapsed : 0;
        s->level += used - s->rate * elapsed;
        if (s->level < 0) s->level = 0;
        if (s->level > s->most) found[count++] = (int)i;
    }
    return count;
}

typedef Py_ssize_t sweeper(const int *fds, void *rows, Py_ssize_t n, double by, int *found);

/* Sweep over descriptors and a row for each of `size` bytes; return the indices that it found. */
static PyObject *swept(PyObject *args, const char *format, size_t size, sweeper *sweep) {
    Py_buffer fds, rows;
    double by;
    PyObject *list = NULL;
    if (!PyArg_ParseTuple(args, format, &fds, &rows, &by)) return NULL;
    Py_ssize_t n = fds.len / (Py_ssize_t)sizeof(int), count;
    int *found = PyMem_Malloc((size_t)n * sizeof(int) + 1);
    if (rows.len != n * (Py_ssize_t)size) {
        PyErr_SetString(PyExc_ValueError, "a row for each descriptor");
    } else if (!found) {
        PyErr_NoMemory();
    } else {
        Py_BEGIN_ALLOW_THREADS count = sweep(fds.buf, rows.buf, n, by, found);
        Py_END_ALLOW_THREADS list = as_list(found, count);
    }
    PyMem_Free(found);
    PyBuffer_Release(&fds);
    PyBuffer_Release(&rows);
    return list;
}

/* watch(descriptors, totals, least), watch_use(descriptors, spendings, elapsed): see the table in
 * module.c. */
PyObject *vs_py_watch(PyObject *module, PyObject *args) {
    (void)module;
    return swept(args, "y*w*d:watch", sizeof(int64_t), sweep_totals);
}

PyObject *vs_py_watch_use(PyObject *module, PyObject *args) {
    (void)module;
    return swept(args, "y*w*d:watch_use", sizeof(struct vs_spending), sweep_use);
}
