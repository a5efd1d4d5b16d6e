/* Run a machine to its end, feeding its input and keeping its output within a bound. */
#ifndef VISCUM_CAPTURE_H
#define VISCUM_CAPTURE_H

#include "core.h"

struct vs_buffer {
    char *data;
    size_t size, capacity, limit;
    int truncated; /* more came than `limit`; it was read and thrown away */
};

struct vs_capture {
    const char *input;
    size_t input_size;
    struct vs_buffer output[2]; /* stdout, stderr */
    int captures;               /* 0: the machine keeps the caller's stdout and stderr */
    uint32_t uid, gid;          /* on the host, of the machine's user: the pipes become theirs */
    int64_t timeout_ns;         /* < 0: none */
    int cgroup_slot;            /* of a v2 group to kill, VS_NONE where there is none */
    int timed_out;
    int interrupted; /* set when `interrupt` asked for the end */
    int (*interrupt)(void *);
    void *interrupt_data;
    struct vs_stat stat;
    struct vs_report report;
};

/* 0, or a negative error number with capture->report filled. The machine is reaped on return
 * and not yet released. */
VS_PRIVATE int vs_capture_run(struct vs_machine *m, struct vs_capture *capture, int host_pidfd);
VS_PRIVATE void vs_capture_free(struct vs_capture *capture);

/* Kill what is in the machine: its first process, and with it its pid namespace; its v2 group
 * where it shares the pid namespace of somebody else. */
VS_PRIVATE void vs_kill_all(struct vs_machine *m, int cgroup_slot);

#endif
