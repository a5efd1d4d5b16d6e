/* viscum-oci: the command line of an OCI runtime. `state`, `start`, `kill` and `delete` are done
 * here, with no Python: they read what `create` wrote and make a call or two. Everything else is
 * compiled by Python (viscum.oci), which comes back here to launch what it compiled. */
#ifndef VISCUM_OCI_H
#define VISCUM_OCI_H

#include <stddef.h>
#include <sys/types.h>

#define OCI_PATH    4096
#define OCI_CGROUPS 32
#define OCI_CLASSES 2

struct oci_call {
    const char *root, *log, *log_format;
    const char *bin; /* the folder of this program */
    int argc;        /* all words, for Python */
    char **argv;
    int verb; /* index of the verb in argv */
};

struct oci_record {
    char *data; /* of the record file; the rest points into it */
    const char *id, *bundle, *rootfs, *version, *created, *owner, *annotations, *freezer, *scope;
    const char *cgroups[OCI_CGROUPS];
    const char *classes[OCI_CLASSES]; /* folders in resctrl that were made for it */
    int cgroup_count, class_count, has_poststart, has_poststop;
    pid_t creator;
    unsigned long long creator_started;
    pid_t pid; /* 0: none yet */
    unsigned long long started;
    int folder; /* descriptor of the container's folder, locked */
    char path[OCI_PATH];
};

enum oci_status { OCI_CREATING, OCI_CREATED, OCI_RUNNING, OCI_PAUSED, OCI_STOPPED };

/* oci.c */
int oci_fail(const struct oci_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void oci_warn(const struct oci_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int oci_python(const struct oci_call *call, const char *const *before, int wait);

/* oci_record.c */
int oci_record_open(const struct oci_call *call, const char *id, int lock,
                    struct oci_record *record);
void oci_record_close(struct oci_record *record);
enum oci_status oci_status(const struct oci_record *record);
const char *oci_status_name(enum oci_status status);
unsigned long long oci_start_time(pid_t pid);
int oci_write_pid(int folder, pid_t pid);
int oci_write_file(int dir, const char *name, const char *data);
int oci_open_gate(const struct oci_record *record);

/* oci_verbs.c */
int oci_state(const struct oci_call *call, int argc, char **argv);
int oci_start(const struct oci_call *call, int argc, char **argv);
int oci_kill(const struct oci_call *call, int argc, char **argv);
int oci_delete(const struct oci_call *call, int argc, char **argv);
int oci_let_go(const struct oci_call *call, struct oci_record *record);
int oci_remove(const struct oci_call *call, struct oci_record *record);

/* oci_launch.c */
int oci_launch(struct oci_call *call, int argc, char **argv);

/* oci_terminal.c: carry a terminal between its master and our own standard streams. */
int oci_terminal_receive(int socket);
void oci_terminal_begin(int master);
void oci_terminal_resize(int master);
int oci_terminal_carry(int master, short events, int from_us);
void oci_terminal_end(void);

#endif
