/* What works on files of a machine needs of the kernel and Python does not have. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

/* open_at(folder, path, flags, mode, resolve): openat2(2), its own words. */
PyObject *vs_py_open_at(PyObject *module, PyObject *args) {
    unsigned long long flags, mode, resolve;
    PyObject *path;
    int folder;
    (void)module;
    if (!PyArg_ParseTuple(args, "iO&KKK:open_at", &folder, PyUnicode_FSConverter, &path, &flags,
                          &mode, &resolve))
        return NULL;
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    const char *bytes = PyBytes_AsString(path);
    long fd;
    int tries = 0;
    Py_BEGIN_ALLOW_THREADS;
    do fd = SYS(SYS_openat2, folder, bytes, &how, sizeof how);
    while ((fd == -EINTR || fd == -EAGAIN) && tries++ < 1000); /* EAGAIN: renamed meanwhile */
    Py_END_ALLOW_THREADS;
    if (fd < 0) {
        errno = (int)-fd;
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, bytes);
    }
    Py_DECREF(path);
    return fd < 0 ? NULL : PyLong_FromLong(fd);
}

/* enter(pidfd, user): become root of the machine of a process, for good: its user namespace, if
 * it has one of its own, and its mounts. Nobody in it can trace this process, which keeps
 * descriptors of the host. Wants a process with one thread. */
PyObject *vs_py_enter(PyObject *module, PyObject *args) {
    int pidfd, user;
    (void)module;
    if (!PyArg_ParseTuple(args, "ip:enter", &pidfd, &user)) return NULL;
    int flags = CLONE_NEWNS | (user ? CLONE_NEWUSER : 0);
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || setns(pidfd, flags) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    /* Where there is one id there are no groups to drop. */
    if (setgroups(0, NULL) < 0 && errno != EPERM) return PyErr_SetFromErrno(PyExc_OSError);
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || chdir("/") < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    prctl(PR_SET_DUMPABLE, 0); /* a change of ids may have turned it on */
    Py_RETURN_NONE;
}
