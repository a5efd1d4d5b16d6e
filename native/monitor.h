/* viscum-monitor: the parent of a detached machine. It keeps the machine's log, terminal, standard
 * input and exit status, starts it again as its restart policy says, and checks its health. All of
 * what it must know stands in the machine's folder:
 *
 *   plan, health.plan   launch programs          settings     lines of `key value` (settings.c)
 *   status.json         written here by rename   log, log.1…  JSON lines (log.c)
 *   ctl                 the socket of clients (clients.c)
 */
#ifndef VISCUM_MONITOR_H
#define VISCUM_MONITOR_H

#include "capture.h"

#include <poll.h>
#include <signal.h>
#include <sys/types.h>

#define VS_TEXT       256
#define VS_CLIENTS    64
#define VS_WATCHED    (VS_CLIENTS + 16)
#define VS_READ_SIZE  65536
#define VS_INPUT_SIZE 4096
#define VS_LINE_SIZE  16384
#define VS_TIME_SIZE  40

enum vs_oom_policy { VS_OOM_KILL, VS_OOM_PAUSE, VS_OOM_GROW };
enum vs_restart { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS };

struct vs_settings {
    char id[VS_TEXT], name[VS_TEXT], group[VS_TEXT], events[1024];
    char oom_file[VS_TEXT];
    char target[1024]; /* folder of the machine whose namespaces are shared */
    char cleaner[1024], data[1024], run[1024]; /* who removes the machine once it has ended */
    int terminal_slot, kill_slot, oom_slot, freezer_slot; /* VS_NONE where there is none */
    int oom_policy;                                       /* enum vs_oom_policy */
    uint64_t oom_most;                                    /* bytes that the limit may grow to */
    int uid, gid;    /* of the machine's user, as the host knows it */
    int interactive; /* keep standard input open */
    int restart, restart_max;
    int stop_signal, stop_timeout_ms;
    int timeout_ms;              /* after which the machine is killed; 0: never */
    uint64_t log_size, log_rate; /* bytes, bytes a second; 0: no limit */
    int log_files;
    int health_interval_ms, health_timeout_ms, health_start_ms, health_retries;
};

enum vs_source { /* what an event is about */
                 VS_ON_EXIT,
                 VS_ON_OUTPUT,
                 VS_ON_ERRORS,
                 VS_ON_TERMINAL,
                 VS_ON_INPUT,
                 VS_ON_LISTEN,
                 VS_ON_SIGNAL,
                 VS_ON_TIMER, /* restart, or the end of patience after a stop */
                 VS_ON_RATE,
                 VS_ON_HEALTH_TIMER,
                 VS_ON_HEALTH_EXIT,
                 VS_ON_LACK,
                 VS_ON_CLIENT /* + its index */
};

struct vs_log {
    int folder, fd, files;
    uint64_t size, max_size, lost;
    char *out; /* records on their way to the file */
    size_t used;
    struct {
        char data[VS_LINE_SIZE]; /* the begin of a line that has not ended */
        size_t used;
    } part[2];
    int64_t second; /* of the cached time stamp */
    char stamp[VS_TIME_SIZE];
};

struct vs_client {
    int fd;
    int follows;      /* wants output */
    int paused;       /* its input waits for the machine to take what came before */
    int gone;         /* it has left, with input of it still waiting */
    uint64_t skipped; /* bytes of output that it was too slow for */
};

struct vs_health {
    struct vs_plan plan;
    struct vs_machine m;
    char *bytes;
    int timer, output, failing, active, timed_out, has_plan;
    int64_t begun;
    char status[16], text[2048];
    size_t used;
};

/* Lack of memory: what to poll, kills and other events that were told. */
struct vs_lack {
    int fd;
    long long kills, told;
};

struct vs_monitor {
    struct vs_settings set;
    struct vs_plan plan;
    struct vs_machine m;
    struct vs_log log;
    struct vs_health health;
    struct vs_lack lack;
    struct vs_client clients[VS_CLIENTS];
    struct pollfd watched[VS_WATCHED]; /* what is waited for, and what each is about */
    unsigned sources[VS_WATCHED];
    int watching;
    int folder, timer, rate_timer, signals, listener, self;
    int output[2], input, terminal; /* our ends; -1 */
    int keeper, keeper_pid;         /* pidfd of who holds input or terminal too; -1, 0 */
    char pending[VS_INPUT_SIZE];    /* input that the machine has not taken yet */
    size_t pending_size;
    int close_input; /* once all of it was taken */
    int running;     /* a process of the machine is there */
    int stopping;    /* it was asked to end: no restart */
    int killing;     /* the stop timeout runs */
    int restarts, oom;
    int code;                                 /* exit code; -1: unknown */
    int signal;                               /* that ended it */
    int64_t started, finished, started_clock; /* ns: of the epoch, of CLOCK_BOOTTIME */
    uint64_t rate_left;
    int64_t last_read; /* ns of CLOCK_BOOTTIME: when output was read and passed on */
    char error[VS_TEXT];
};

/* settings.c */
VS_PRIVATE int vs_settings_read(struct vs_settings *set, int folder);
VS_PRIVATE char *vs_read_file(int folder, const char *name, size_t *size);

/* status.c */
VS_PRIVATE void vs_status_write(struct vs_monitor *mon, const char *state);
VS_PRIVATE void vs_event(struct vs_monitor *mon, const char *event, const char *attributes);
VS_PRIVATE int vs_write_whole(int folder, const char *name, const char *data, size_t size);
VS_PRIVATE int64_t vs_epoch_ns(void);
VS_PRIVATE int64_t vs_clock_ns(void);
VS_PRIVATE unsigned long long vs_start_time(long pid);
VS_PRIVATE int vs_status_number(const char *json, const char *key, long long *value);

/* keeper.c */
VS_PRIVATE void vs_keeper_start(struct vs_monitor *mon);
VS_PRIVATE void vs_keeper_end(struct vs_monitor *mon);
VS_PRIVATE int vs_keeper_take(struct vs_monitor *mon, int pid, unsigned long long start);

/* log.c */
VS_PRIVATE int vs_log_open(struct vs_log *log, int folder, const struct vs_settings *set);
VS_PRIVATE void vs_log_add(struct vs_log *log, int stream, const char *data, size_t size);
VS_PRIVATE void vs_log_end(struct vs_log *log);

/* clients.c */
VS_PRIVATE int vs_clients_listen(struct vs_monitor *mon);
VS_PRIVATE int vs_clients_add(struct vs_monitor *mon, int fd);
VS_PRIVATE void vs_clients_accept(struct vs_monitor *mon);
VS_PRIVATE void vs_clients_receive(struct vs_monitor *mon, int index, unsigned events);
VS_PRIVATE void vs_clients_send(struct vs_monitor *mon, char type, const void *data, size_t size);
VS_PRIVATE void vs_clients_end(struct vs_monitor *mon, int32_t code);
VS_PRIVATE void vs_input_ready(struct vs_monitor *mon);

/* streams.c */
VS_PRIVATE int vs_streams_open(struct vs_monitor *mon);
VS_PRIVATE void vs_streams_hand_over(struct vs_monitor *mon);
VS_PRIVATE int vs_streams_started(struct vs_monitor *mon);
VS_PRIVATE void vs_streams_read(struct vs_monitor *mon, int source);
VS_PRIVATE void vs_streams_drain(struct vs_monitor *mon);
VS_PRIVATE void vs_streams_close(struct vs_monitor *mon);
VS_PRIVATE void vs_streams_refill(struct vs_monitor *mon);

/* health.c */
VS_PRIVATE int vs_health_open(struct vs_monitor *mon);
VS_PRIVATE void vs_health_start(struct vs_monitor *mon);
VS_PRIVATE void vs_health_stop(struct vs_monitor *mon);
VS_PRIVATE void vs_health_timer(struct vs_monitor *mon);
VS_PRIVATE void vs_health_exit(struct vs_monitor *mon);

/* lack.c: what was `known` before is not told again. */
VS_PRIVATE void vs_lack_start(struct vs_monitor *mon, int known);
VS_PRIVATE void vs_lack_stop(struct vs_monitor *mon);
VS_PRIVATE void vs_lack_ready(struct vs_monitor *mon);

/* adopt.c */
VS_PRIVATE int vs_adopt_machine(struct vs_monitor *mon);

/* monitor.c */
VS_PRIVATE int vs_watch(struct vs_monitor *mon, int fd, unsigned events, unsigned source);
VS_PRIVATE void vs_unwatch(struct vs_monitor *mon, int fd);
VS_PRIVATE void vs_arm(int timer, int64_t ns);
VS_PRIVATE void vs_stop(struct vs_monitor *mon, int number, int64_t patience_ns);
VS_PRIVATE int vs_is_paused(struct vs_monitor *mon);

#endif
