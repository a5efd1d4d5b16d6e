/* The entry: global options, and who does the rest. */
#include "oci.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Its arguments: our folder, the copy of our program, the verb (viscum.oci.gathered has what it
 * imports), the words. */
static const char program[] =
    "import gc, sys\n"
    "gc.disable()\n"
    "bin, copy, verb = sys.argv[1:4]\n"
    "sys.argv[:4] = [bin + '/viscum-oci']\n"
    "lib = '%s/../lib/python%d.%d/site-packages' % ((bin,) + sys.version_info[:2])\n"
    "sys.path.append(lib)\n"
    "try:\n"
    "    if int(copy) >= 0:\n"
    "        import marshal, os\n"
    "        with open(lib + '/viscum/oci/gathered', 'rb', 0) as file:\n"
    "            made, data = os.fstat(file.fileno()).st_mtime, file.read()\n"
    "        mark = sys.implementation.cache_tag + ' ' + sys.version_info.releaselevel + '\\n'\n"
    "        if data.startswith(mark.encode()):\n"
    "            code, modules, orders = marshal.loads(memoryview(data)[len(mark):])\n"
    "            space = {'__name__': 'viscum.oci.gathered'}\n"
    "            exec(marshal.loads(code), space)\n"
    "            space['restore'](lib, verb, made, modules, orders)\n"
    "except OSError:\n"
    "    pass\n"
    "try:\n"
    "    from viscum.oci.main import leave\n"
    "except ModuleNotFoundError:\n"
    "    import site\n"
    "    site.main()\n"
    "    from viscum.oci.main import leave\n"
    "leave(bin, int(copy))\n";

static void append_json(char *out, size_t size, const char *text) {
    size_t n = 0;
    for (; *text && n + 8 < size; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            out[n++] = '\\', out[n++] = (char)byte;
        else if (byte < 0x20)
            n += (size_t)snprintf(out + n, size - n, "\\u%04x", byte);
        else
            out[n++] = (char)byte;
    }
    out[n] = 0;
}

/* One line in the log, in the format asked for. Where that is a file, stderr has the bare text:
 * whoever called shows it to people. */
static void say(const struct oci_call *call, const char *level, const char *text) {
    char quoted[8192], when[64];
    time_t now = time(NULL);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    append_json(quoted, sizeof quoted, text);
    int json = call->log_format && !strcmp(call->log_format, "json");
    const char *log = call->log && *call->log ? call->log : NULL;
    int fd = log ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (log && fd < 0) fprintf(stderr, "viscum-oci: log %s: %s\n", log, strerror(errno));
    int to = fd < 0 ? 2 : fd;
    if (json)
        dprintf(to, "{\"level\":\"%s\",\"msg\":\"%s\",\"time\":\"%s\"}\n", level, quoted, when);
    else
        dprintf(to, "time=\"%s\" level=%s msg=\"%s\"\n", when, level, quoted);
    if (fd < 0) return;
    close(fd);
    dprintf(2, "%s\n", text);
}

int oci_fail(const struct oci_call *call, const char *format, ...) {
    char text[4096];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    say(call, "error", text);
    return 1;
}

void oci_warn(const struct oci_call *call, const char *format, ...) {
    char text[4096];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    say(call, "warning", text);
}

/* What launches a container runs from this: a container that reaches it through /proc/PID/exe can
 * write to nothing (CVE-2019-5736). -1: Python has no use for it, or says what is wrong. */
static int sealed_copy(void) {
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int fd = from < 0 ? -1 : memfd_create("viscum-oci", MFD_ALLOW_SEALING);
    while (fd >= 0 && sendfile(fd, from, NULL, 1 << 24) > 0) continue;
    if (from >= 0) close(from);
    if (fd >= 0 && fd < 3 + 1024) { /* not where an engine's descriptors stand */
        int high = fcntl(fd, F_DUPFD, 3 + 1024);
        if (high >= 0) close(fd), fd = high;
    }
    const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (fd >= 0 && fcntl(fd, F_ADD_SEALS, seals) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Run `words` by the interpreter that starts sooner, where it was built and has what the call
 * needs: no D-Bus, no socket for a terminal. */
static void become_compiler(const struct oci_call *call, char **words) {
    static const char *const verbs[] = {"create", "run", "exec"};
    char path[OCI_PATH + 64];
    int launches = 0;
    for (int i = 0; i < 3; i++) launches |= call->verb && !strcmp(call->argv[call->verb], verbs[i]);
    for (int i = 1; i < call->argc; i++)
        if (strstr(call->argv[i], "-systemd-cgroup") || strstr(call->argv[i], "-console-socket"))
            launches = 0;
    snprintf(path, sizeof path, "%s/%s/viscum-oci-compile", call->bin, VISCUM_PROGRAMS);
    if (launches) execv(path, words);
}

static int become_python(const struct oci_call *call, const char *const *before) {
    char python[OCI_PATH + 16], found[PATH_MAX], copy[16];
    int extra = 0;
    while (before && before[extra]) extra++;
    char **words = calloc((size_t)(call->argc + extra) + 9, sizeof *words);
    char *verb = call->verb ? call->argv[call->verb] : "";
    if (!words) return 1;
    *words++ = "viscum-oci-compile"; /* who may run what follows instead */
    snprintf(python, sizeof python, "%s/python3", call->bin);
    snprintf(copy, sizeof copy, "%d", extra ? -1 : sealed_copy());
    const char *first[] = {python, "-IS", "-c", program, call->bin, copy, verb};
    memcpy(words, first, sizeof first);
    for (int i = 0; i < extra; i++) words[7 + i] = (char *)before[i];
    for (int i = 1; i < call->argc; i++) words[6 + extra + i] = call->argv[i];
    /* Not by the link in an environment, whose settings it would look for: `program` needs none. */
    if (realpath(python, found)) words[0] = found;
    if (!extra) become_compiler(call, words - 1);
    execv(words[0], words);
    words[0] = "python3"; /* not beside it: a user's or the system's installation */
    words[1] = "-P";
    execvp("python3", words);
    fprintf(stderr, "viscum-oci: python3: %s\n", strerror(errno));
    return 127;
}

/* Run Python on all our words, with `before` in front of them: in our place, or waited for. */
int oci_python(const struct oci_call *call, const char *const *before, int wait) {
    int status;
    if (!wait) return become_python(call, before);
    pid_t pid = vfork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* and so do the hooks that it runs */
        _exit(become_python(call, before));
    }
    if (pid < 0) return oci_fail(call, "cannot start a process: %s", strerror(errno));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* The value of a global option that stands at argv[*at], or NULL where it is another one. */
static const char *option(char **argv, int argc, int *at, const char *name) {
    const char *word = argv[*at] + strspn(argv[*at], "-");
    size_t size = strlen(name);
    if (strncmp(word, name, size)) return NULL;
    if (word[size] == '=') return word + size + 1;
    if (word[size] || *at + 1 >= argc) return NULL;
    return argv[++*at];
}

/* Find the verb; what is not understood here is for Python to judge. */
static int read_globals(struct oci_call *call) {
    int i = 1;
    for (; i < call->argc && call->argv[i][0] == '-'; i++) {
        const char *word = call->argv[i] + strspn(call->argv[i], "-"), *value;
        if ((value = option(call->argv, call->argc, &i, "root")))
            call->root = value;
        else if ((value = option(call->argv, call->argc, &i, "log")))
            call->log = value;
        else if ((value = option(call->argv, call->argc, &i, "log-format"))) {
            call->log_format = value;
            if (strcmp(value, "text") && strcmp(value, "json")) return 0;
        } else if (option(call->argv, call->argc, &i, "rootless") ||
                   option(call->argv, call->argc, &i, "criu"))
            continue;
        else if (strcmp(word, "debug") && strncmp(word, "debug=", 6) &&
                 strcmp(word, "systemd-cgroup") && strncmp(word, "systemd-cgroup=", 15))
            return 0;
    }
    if (i < call->argc) call->verb = i;
    return i < call->argc;
}

/* Root of a user namespace is an ordinary user to the host, and writes where that one may. */
static int is_host_root(void) {
    unsigned inside = 0, outside = 0, count = 0;
    FILE *map = geteuid() == 0 ? fopen("/proc/self/uid_map", "re") : NULL;
    int n = map ? fscanf(map, "%u %u %u", &inside, &outside, &count) : 0;
    if (map) fclose(map);
    return geteuid() == 0 && (n != 3 || count == UINT_MAX);
}

/* The same as in viscum.oci.main. */
static const char *default_root(void) {
    static char root[OCI_PATH];
    const char *given = getenv("VISCUM_RUN"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (given && *given)
        snprintf(root, sizeof root, "%s/oci", given);
    else if (runtime && *runtime && !is_host_root())
        snprintf(root, sizeof root, "%s/viscum/oci", runtime);
    else if (geteuid() == 0)
        return "/run/viscum/oci";
    else
        snprintf(root, sizeof root, "/tmp/viscum-%u/oci", (unsigned)geteuid());
    return root;
}

/* viscum-oci-hook PROGRAM ARGUMENTS...: what Python starts hooks with, which end with it. */
static int become_hook(char **words) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv(words[0], words + 1);
    fprintf(stderr, "%s\n", strerror(errno));
    return 127;
}

static const struct {
    const char *name;
    int (*run)(const struct oci_call *, int, char **);
} verbs[] = {
    {"state", oci_state}, {"start", oci_start}, {"kill", oci_kill}, {"delete", oci_delete}};

int main(int argc, char **argv) {
    static char bin[PATH_MAX];
    struct oci_call call = {.bin = bin, .argc = argc, .argv = argv};
    if (argc && !strcmp(argv[0], "viscum-oci-launch")) return oci_launch(&call, argc, argv);
    if (argc > 1 && !strcmp(argv[0], "viscum-oci-hook")) return become_hook(argv + 1);
    ssize_t length = readlink("/proc/self/exe", bin, sizeof bin - 1);
    if (length <= 0) {
        fprintf(stderr, "viscum-oci: /proc/self/exe: %s\n", strerror(errno));
        return 1;
    }
    bin[length] = 0;
    *strrchr(bin, '/') = 0;
    if (!read_globals(&call)) return oci_python(&call, NULL, 0);
    if (!call.root) call.root = default_root();
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[call.verb], verbs[i].name)) continue;
        int code = verbs[i].run(&call, argc - call.verb, argv + call.verb);
        if (code >= 0) return code;
    }
    return oci_python(&call, NULL, 0);
}
