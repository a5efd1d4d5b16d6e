/* The `viscum` command. A `run` that was compiled before is launched from here, with no Python.
 * Everything else is for this environment's Python, started without its site start-up (2 ms);
 * where viscum is not beside that Python, Python looks for it in its usual way. */
#include "foreground.h"
#include "living.h"
#include "remembered.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char program[] =
    "import sys\n"
    "bin, key, plan = sys.argv[1:4]\n"
    "sys.argv[:4] = [bin + '/viscum']\n"
    "sys.path.append('%s/../lib/python%d.%d/site-packages' % ((bin,) + sys.version_info[:2]))\n"
    "try:\n"
    "    from viscum.__main__ import leave\n"
    "except ModuleNotFoundError:\n"
    "    import site\n"
    "    site.main()\n"
    "    from viscum.__main__ import leave\n"
    "leave(int(key), plan)\n";

/* Nothing is to be found and finished: that is for Python. */
static int is_clean(const struct vs_plan *plan) {
    for (uint32_t i = plan->first[VS_LOAD]; i < plan->first[VS_LOAD + 1]; i++)
        if (plan->ops[i].code == OP_cgroup_root && plan->ops[i].arg[1] < plan->table_size &&
            vs_has_orphans(plan->table + plan->ops[i].arg[1]))
            return 0;
    return 1;
}

/* A pipe becomes the machine's user's, who could not open /dev/stdout otherwise. */
static void give_away(int fd, const struct vs_remembered *remembered) {
    struct stat is;
    if (fstat(fd, &is) == 0 && S_ISFIFO(is.st_mode))
        SYS(SYS_fchown, fd, remembered->uid, remembered->gid);
}

static void watch_memory(struct vs_oom *oom, struct vs_machine *m,
                         const struct vs_remembered *remembered) {
    int folder = remembered->oom_slot < VS_SLOTS ? m->slots[remembered->oom_slot] : -1;
    vs_oom_watch(oom, folder, remembered->oom_file);
}

/* Run the remembered plan. Does not return where it ran; where anything is not as it was, it
 * returns with nothing done, and Python finds out what. */
static void run_remembered(struct vs_remembered *remembered) {
    static struct vs_plan plan;
    static struct vs_machine m;
    struct vs_report report;
    char id[VS_ID_SIZE];
    if (isatty(1) || isatty(2) || (remembered->interactive && isatty(0))) return;
    if (vs_plan_decode(&plan, remembered->plan, remembered->plan_size, &report) < 0 ||
        !is_clean(&plan) || vs_plan_load(&plan, &report) < 0)
        return;
    int null = vs_above_standard(open("/dev/null", O_RDWR | O_CLOEXEC));
    int self = vs_above_standard((int)SYS(SYS_pidfd_open, getpid(), 0));
    vs_machine_init(&m, &plan);
    if (!remembered->interactive) m.slots[VS_STDIN] = null;
    give_away(1, remembered);
    give_away(2, remembered);
    vs_make_id(id);
    m.parameters[0] = id;
    int signals = vs_collect_signals();
    struct vs_oom oom;
    vs_oom_begin(&oom);
    int launched = vs_launch(&m, self, &report) == 0;
    close(null);
    close(self);
    if (launched) {
        watch_memory(&oom, &m, remembered);
        int status = vs_follow(&m, signals, &oom);
        vs_oom_close(&oom);
        vs_release(&m);
        exit(status);
    }
    vs_oom_close(&oom);
    vs_forget_signals(signals);
    vs_plan_unload(&plan);
}

/* A descriptor with the key, for Python to remember the plan under; -1: not to be remembered. */
static int pass_key(const struct vs_key *key) {
    int fd = memfd_create("viscum-key", 0);
    if (fd >= 0 && write(fd, key->data, key->size) == (ssize_t)key->size) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static int run_python(const char *bin, const char *key, const char *path, int argc, char **argv) {
    char python[PATH_MAX + 16];
    snprintf(python, sizeof python, "%s/python3", bin);
    char **words = calloc((size_t)argc + 8, sizeof *words);
    if (!words) return 125;
    const char *first[] = {python, "-IS", "-c", program, bin, key, path};
    memcpy(words, first, sizeof first);
    for (int i = 1; i < argc; i++) words[6 + i] = argv[i];
    execv(python, words);
    words[0] = "python3"; /* not beside it: a user's or the system's installation */
    words[1] = "-P";      /* with its site start-up, which knows where such packages are */
    execvp("python3", words);
    fprintf(stderr, "viscum: python3: %s\n", strerror(errno));
    return 127;
}

int main(int argc, char **argv) {
    static struct vs_key key;
    struct vs_remembered remembered;
    char bin[PATH_MAX], number[16] = "-1";
    ssize_t length = readlink("/proc/self/exe", bin, sizeof bin - 1);
    if (length <= 0) {
        fprintf(stderr, "viscum: /proc/self/exe: %s\n", strerror(errno));
        return 125;
    }
    bin[length] = 0;
    *strrchr(bin, '/') = 0;
    if (argc > 2 && !strcmp(argv[1], "run") && vs_key_make(&key, argc, argv) == 0) {
        int found = vs_remembered_read(&key, &remembered) == 0;
        if (found && remembered.lives) vs_living_run(&remembered);
        if (found && !remembered.lives) run_remembered(&remembered);
        snprintf(number, sizeof number, "%d", pass_key(&key));
    }
    return run_python(bin, number, key.path, argc, argv);
}
