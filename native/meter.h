/* The figures of many machines, read from their groups through descriptors that stay open. */
#ifndef VISCUM_METER_H
#define VISCUM_METER_H

#include <stdint.h>

#define VS_METER_KINDS 17
#define VS_METER_FILES 16

/* The figures, in this order; seconds and shares as they are, the rest counts. */
enum vs_figure {
    VS_CPU_SECONDS,
    VS_USER_SECONDS,
    VS_SYSTEM_SECONDS,
    VS_PERIODS,
    VS_THROTTLED_PERIODS,
    VS_THROTTLED_SECONDS,
    VS_MEMORY,
    VS_PEAK,
    VS_WORKING_SET,
    VS_SWAP,
    VS_REFAULTS,
    VS_OOM_KILLS,
    VS_PIDS,
    VS_READ_BYTES,
    VS_WRITTEN_BYTES,
    VS_READS,
    VS_WRITES,
    VS_CPU_PRESSURE, /* some and full: average over 10 s, then seconds; the same for the others */
    VS_MEMORY_PRESSURE = VS_CPU_PRESSURE + 4,
    VS_IO_PRESSURE = VS_MEMORY_PRESSURE + 4,
    VS_FIGURES = VS_IO_PRESSURE + 4,
};

/* What the host has counted of all groups together; -1: unknown. */
struct vs_host_figures {
    double kills, memory_stalled, io_stalled;
};

struct vs_row {
    int count;
    int kinds[VS_METER_FILES]; /* how each file is read */
    int fds[VS_METER_FILES];   /* -1: opened at each reading */
    char *paths[VS_METER_FILES];
    double figures[VS_FIGURES];
    int gone, read, counts_cpu;
    int quiet;    /* bits of the kinds of pressure that did not change lately */
    int no_event; /* bits of the kinds of which the host had none since the last reading */
    struct vs_host_figures host[2]; /* at the last two readings */
};

/* Open what can be kept open; files beyond `most` descriptors are opened at each reading. */
void vs_row_open(struct vs_row *row, int most);
void vs_row_close(struct vs_row *row);

/* Fill in the figures of all rows, on `threads` threads. */
void vs_meter_read(struct vs_row **rows, long count, int threads);

#endif
