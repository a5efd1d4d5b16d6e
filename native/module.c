/* The method table of viscum._core. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <unistd.h>

PyTypeObject *vs_plan_type, *vs_machine_type;
PyObject *vs_failure;

/* A descriptor of this process for its children to watch; another one after a fork. */
int vs_host_pidfd(void) {
    static int fd = -1;
    static pid_t owner;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pid_t self = getpid();
    if (__atomic_load_n(&owner, __ATOMIC_ACQUIRE) == self) return fd;
    pthread_mutex_lock(&lock);
    if (owner != self) {
        if (fd >= 0) close(fd);
        fd = vs_above_standard((int)SYS(SYS_pidfd_open, self, 0));
        __atomic_store_n(&owner, self, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

/* Failure(operation index, system call number, error number) */
PyObject *vs_raise(const struct vs_report *report) {
    PyObject *args = Py_BuildValue("(iii)", report->index, report->fault.nr, report->fault.err);
    if (args) PyErr_SetObject(vs_failure, args);
    Py_XDECREF(args);
    return NULL;
}

PyObject *vs_stat_tuple(const struct vs_stat *s) {
    return Py_BuildValue("(iiLLLLL)", s->code, s->status, s->user_us, s->system_us, s->peak_kib,
                         s->read_blocks, s->written_blocks);
}

/* open_below(folder, path): openat2(2) for reading; no link leads out of the folder. */
static PyObject *open_below(PyObject *module, PyObject *args) {
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    const char *path;
    int folder;
    (void)module;
    if (!PyArg_ParseTuple(args, "is:open_below", &folder, &path)) return NULL;
    long fd = SYS(SYS_openat2, folder, path, &how, sizeof how);
    if (fd >= 0) return PyLong_FromLong(fd);
    errno = (int)-fd;
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
}

/* pipe(): read and write end, neither of them at 0, 1 or 2. */
static PyObject *make_pipe(PyObject *module, PyObject *unused) {
    struct vs_fault fault;
    int ends[2];
    (void)module, (void)unused;
    if (vs_pipe(ends, &fault) >= 0) return Py_BuildValue("(ii)", ends[0], ends[1]);
    errno = fault.err;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* open_null(): /dev/null for reading and writing, not at 0, 1 or 2. */
static PyObject *open_null(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    int fd = vs_above_standard(open("/dev/null", O_RDWR | O_CLOEXEC));
    return fd >= 0 ? PyLong_FromLong(fd) : PyErr_SetFromErrno(PyExc_OSError);
}

static PyMethodDef methods[] = {
    {"pipe", make_pipe, METH_NOARGS, PyDoc_STR("pipe() -> (read end, write end)")},
    {"open_null", open_null, METH_NOARGS, PyDoc_STR("open_null() -> fd")},
    {"open_below", open_below, METH_VARARGS, PyDoc_STR("open_below(folder, path) -> fd")},
    {"open_at", vs_py_open_at, METH_VARARGS,
     PyDoc_STR("open_at(folder, path, flags, mode, resolve) -> fd")},
    {"enter", vs_py_enter, METH_VARARGS, PyDoc_STR("enter(pidfd, user)")},
    {"open_inside", vs_py_open_inside, METH_VARARGS,
     PyDoc_STR("open_inside(folder, path, flags) -> fd")},
    {"mount", vs_py_mount, METH_VARARGS, PyDoc_STR("mount(source, target, kind, flags, options)")},
    {"mount_overlay", vs_py_mount_overlay, METH_VARARGS,
     PyDoc_STR("mount_overlay(lower, upper, work) -> fd")},
    {"mount_erofs", vs_py_mount_erofs, METH_VARARGS, PyDoc_STR("mount_erofs(file) -> fd")},
    {"unmount", vs_py_unmount, METH_VARARGS, PyDoc_STR("unmount(target)")},
    {"sync_file_system", vs_py_sync, METH_VARARGS, PyDoc_STR("sync_file_system(folder)")},
    {"launch", vs_py_launch, METH_VARARGS,
     PyDoc_STR("launch(plan, id, stdin, stdout, stderr, target, fail_at) -> Machine")},
    {"run", vs_py_run, METH_VARARGS,
     PyDoc_STR("run(plan, id, input, captures, limit, timeout_ns, kill_slot, files, uid, gid,\n"
               "    fail_at)\n"
               "-> (stat, timed_out, stdout, stderr, truncated, files)")},
    {"wait_pressure", vs_py_wait_pressure, METH_VARARGS,
     PyDoc_STR("wait_pressure(pressure, stop, least, tick, most) -> 0 quiet, 1 moved, 2 stopped\n\n"
               "Wait until /proc/pressure/cpu rose by `least` us within a `tick`, for at most\n"
               "`most` (both in ms), or until the descriptor `stop` can be read.")},
    {"watch", vs_py_watch, METH_VARARGS,
     PyDoc_STR("watch(descriptors, totals, least) -> indexes\n\n"
               "Read each cpu.pressure or cpu.stat; return the indexes whose total rose by at\n"
               "least `least`, and -index-1 of those that cannot be read. Arrays of int and\n"
               "int64; a total is replaced only where its index is returned.")},
    {"watch_use", vs_py_watch_use, METH_VARARGS,
     PyDoc_STR("watch_use(descriptors, spendings, elapsed) -> indexes\n\n"
               "Read each cpu.stat or cpuacct.usage, `elapsed` us after the last time; return the\n"
               "indexes whose level is too high. Arrays of int, and of double with five for each:\n"
               "total, level, the level that is too high (us), limit, used lately (CPUs).")},
    {NULL, NULL, 0, NULL},
};

static int exec_module(PyObject *module) {
    vs_failure = PyErr_NewException("viscum._core.Failure", NULL, NULL);
    vs_plan_type = (PyTypeObject *)PyType_FromSpec(vs_plan_spec());
    vs_machine_type = (PyTypeObject *)PyType_FromSpec(vs_machine_spec());
    PyTypeObject *meter = (PyTypeObject *)PyType_FromSpec(vs_meter_spec());
    PyTypeObject *figures = vs_figures_make();
    if (!meter || PyModule_AddObjectRef(module, "Meter", (PyObject *)meter) < 0) return -1;
    if (!figures || PyModule_AddObjectRef(module, "Figures", (PyObject *)figures) < 0) return -1;
    if (!vs_failure || !vs_plan_type || !vs_machine_type) return -1;
    if (PyModule_AddObjectRef(module, "Failure", vs_failure) < 0) return -1;
    if (PyModule_AddObjectRef(module, "Plan", (PyObject *)vs_plan_type) < 0) return -1;
    if (PyModule_AddObjectRef(module, "Machine", (PyObject *)vs_machine_type) < 0) return -1;
    return vs_add_untar(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "viscum._core",
    .m_doc = PyDoc_STR("Runs plans. Mechanism only; `viscum.native` is its only importer."),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
