/* viscum._core.Machine: a launched machine, from its start until its release. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define USAGE_FILE 4096

static struct machine_object *machine_alloc(PyObject *plan, const char *id) {
    allocfunc allocate = (allocfunc)PyType_GetSlot(vs_machine_type, Py_tp_alloc);
    struct machine_object *self = (struct machine_object *)allocate(vs_machine_type, 0);
    if (!self) return NULL;
    self->plan = (struct plan_object *)plan;
    Py_INCREF(plan);
    vs_machine_init(&self->machine, &self->plan->plan);
    pthread_mutex_init(&self->lock, NULL);
    self->owner = getpid();
    self->released = 1; /* until it is launched there is nothing to release */
    self->id = strdup(id);
    if (!self->id) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    self->machine.parameters[0] = self->id;
    return self;
}

PyObject *vs_py_launch(PyObject *module, PyObject *args) {
    PyObject *plan;
    const char *id;
    struct vs_report report;
    int fds[VS_FIXED_SLOTS], fail_at, ret; /* the last one is ours to fill */
    (void)module;
    if (!PyArg_ParseTuple(args, "O!siiiii:launch", vs_plan_type, &plan, &id, &fds[0], &fds[1],
                          &fds[2], &fds[3], &fail_at))
        return NULL;
    struct machine_object *self = machine_alloc(plan, id);
    if (!self) return NULL;
    fds[VS_LIFE] = vs_host_pidfd();
    for (int i = 0; i < VS_FIXED_SLOTS; i++) self->machine.slots[i] = fds[i];
    self->machine.fail_at = fail_at;
    Py_BEGIN_ALLOW_THREADS ret = vs_launch(&self->machine, vs_host_pidfd(), &report);
    Py_END_ALLOW_THREADS if (ret < 0) {
        Py_DECREF(self);
        return vs_raise(&report);
    }
    self->released = 0;
    return (PyObject *)self;
}

static void machine_reap(struct machine_object *self, int options) {
    pthread_mutex_lock(&self->lock);
    if (!self->reaped) {
        int ret = vs_reap(self->machine.pidfd, options, &self->stat);
        self->reaped = ret != -EAGAIN;
    }
    pthread_mutex_unlock(&self->lock);
}

/* wait(timeout_ns): the status, or None where the time ran out. */
static PyObject *machine_wait(PyObject *object, PyObject *args) {
    struct machine_object *self = (struct machine_object *)object;
    long long timeout;
    int ready = 1;
    if (!PyArg_ParseTuple(args, "L:wait", &timeout)) return NULL;
    if (!self->reaped) {
        struct pollfd p = {.fd = self->machine.pidfd, .events = POLLIN};
        struct timespec limit = {timeout / 1000000000, timeout % 1000000000};
        Py_BEGIN_ALLOW_THREADS ready = ppoll(&p, 1, timeout < 0 ? NULL : &limit, NULL);
        if (ready > 0) machine_reap(self, WNOHANG);
        Py_END_ALLOW_THREADS if (ready < 0 &&
                                 errno != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
        if (ready < 0 && PyErr_CheckSignals()) return NULL;
    }
    if (!self->reaped) Py_RETURN_NONE;
    return vs_stat_tuple(&self->stat);
}

static PyObject *machine_signal(PyObject *object, PyObject *args) {
    struct machine_object *self = (struct machine_object *)object;
    int number;
    if (!PyArg_ParseTuple(args, "i:signal", &number)) return NULL;
    long ret = -ESRCH;
    pthread_mutex_lock(&self->lock);
    if (!self->reaped) ret = SYS(SYS_pidfd_send_signal, self->machine.pidfd, number, 0, 0);
    pthread_mutex_unlock(&self->lock);
    if (ret >= 0) Py_RETURN_NONE;
    errno = (int)-ret;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *read_slot_file(struct vs_machine *m, int slot, const char *name) {
    char data[USAGE_FILE];
    if (slot < 0 || slot >= VS_SLOTS || m->slots[slot] < 0) Py_RETURN_NONE;
    long fd = SYS(SYS_openat, m->slots[slot], name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) Py_RETURN_NONE;
    long n = SYS(SYS_read, fd, data, sizeof data);
    SYS(SYS_close, fd);
    if (n < 0) Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(data, n);
}

/* read(slot, name): the first 4 KiB of a file of a cgroup, or None. */
static PyObject *machine_read(PyObject *object, PyObject *args) {
    int slot;
    const char *name;
    if (!PyArg_ParseTuple(args, "is:read", &slot, &name)) return NULL;
    return read_slot_file(&((struct machine_object *)object)->machine, slot, name);
}

/* descriptor(slot): a descriptor of this launch, still owned by it; -1 where there is none. */
static PyObject *machine_descriptor(PyObject *object, PyObject *args) {
    int slot;
    if (!PyArg_ParseTuple(args, "i:descriptor", &slot)) return NULL;
    if (slot < 0 || slot >= VS_SLOTS) return PyLong_FromLong(-1);
    return PyLong_FromLong(((struct machine_object *)object)->machine.slots[slot]);
}

static void machine_let_go(struct machine_object *self, int cgroup_slot) {
    int mine;
    pthread_mutex_lock(&self->lock);
    mine = !self->released;
    self->released = 1;
    pthread_mutex_unlock(&self->lock);
    if (!mine) return;
    if (self->owner != getpid()) { /* a fork of it: its descriptors only */
        vs_forget(&self->machine);
        return;
    }
    vs_kill_all(&self->machine, cgroup_slot);
    machine_reap(self, 0);
    vs_release(&self->machine);
}

/* release(kill_slot): kill what still runs, and give back what the launch took. Idempotent. */
static PyObject *machine_release(PyObject *object, PyObject *args) {
    int cgroup_slot;
    if (!PyArg_ParseTuple(args, "i:release", &cgroup_slot)) return NULL;
    Py_BEGIN_ALLOW_THREADS machine_let_go((struct machine_object *)object, cgroup_slot);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

/* leave(): let it live on, and forget it. */
static PyObject *machine_leave(PyObject *object, PyObject *unused) {
    struct machine_object *self = (struct machine_object *)object;
    (void)unused;
    pthread_mutex_lock(&self->lock);
    if (!self->released) vs_forget(&self->machine);
    self->released = self->reaped = 1;
    pthread_mutex_unlock(&self->lock);
    Py_RETURN_NONE;
}

static PyObject *machine_pid(PyObject *object, void *closure) {
    (void)closure;
    return PyLong_FromLong(((struct machine_object *)object)->machine.pid);
}

static PyObject *machine_fileno(PyObject *object, PyObject *unused) {
    (void)unused;
    return PyLong_FromLong(((struct machine_object *)object)->machine.pidfd);
}

static void machine_dealloc(PyObject *object) {
    struct machine_object *self = (struct machine_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    machine_let_go(self, VS_NONE);
    pthread_mutex_destroy(&self->lock);
    free(self->id);
    Py_XDECREF((PyObject *)self->plan);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int ask_python(void *data) {
    PyThreadState **state = data;
    PyEval_RestoreThread(*state);
    int raised = PyErr_CheckSignals();
    *state = PyEval_SaveThread();
    return raised != 0;
}

static PyObject *usage_files(struct vs_machine *m, PyObject *wanted) {
    Py_ssize_t count = PyTuple_Size(wanted);
    if (count < 0) return NULL;
    PyObject *result = PyTuple_New(count);
    for (Py_ssize_t i = 0; result && i < count; i++) {
        int slot;
        const char *name;
        PyObject *data = NULL;
        if (PyArg_ParseTuple(PyTuple_GetItem(wanted, i), "is", &slot, &name))
            data = read_slot_file(m, slot, name);
        if (!data || PyTuple_SetItem(result, i, data) < 0) {
            Py_DECREF(result);
            return NULL;
        }
    }
    return result;
}

static PyObject *run_result(struct machine_object *self, struct vs_capture *c, PyObject *wanted) {
    PyObject *files = usage_files(&self->machine, wanted);
    if (!files) return NULL;
    return Py_BuildValue("(NOy#y#iN)", vs_stat_tuple(&c->stat), c->timed_out ? Py_True : Py_False,
                         c->output[0].data ? c->output[0].data : "", (Py_ssize_t)c->output[0].size,
                         c->output[1].data ? c->output[1].data : "", (Py_ssize_t)c->output[1].size,
                         c->output[0].truncated | c->output[1].truncated << 1, files);
}

PyObject *vs_py_run(PyObject *module, PyObject *args) {
    PyObject *plan, *wanted, *result = NULL;
    const char *id;
    Py_ssize_t input_size, limit;
    long long timeout;
    int fail_at, ret;
    struct vs_capture c = {.interrupt = ask_python};
    (void)module;
    if (!PyArg_ParseTuple(args, "O!sz#pnLiO!IIi:run", vs_plan_type, &plan, &id, &c.input,
                          &input_size, &c.captures, &limit, &timeout, &c.cgroup_slot, &PyTuple_Type,
                          &wanted, &c.uid, &c.gid, &fail_at))
        return NULL;
    struct machine_object *self = machine_alloc(plan, id);
    if (!self) return NULL;
    self->machine.fail_at = fail_at;
    c.input_size = (size_t)input_size;
    c.timeout_ns = timeout;
    c.output[0].limit = c.output[1].limit = (size_t)limit;
    PyThreadState *state = PyEval_SaveThread();
    c.interrupt_data = &state;
    ret = vs_capture_run(&self->machine, &c, vs_host_pidfd());
    PyEval_RestoreThread(state);
    if (ret < 0) {
        vs_raise(&c.report);
    } else {
        self->reaped = 1;
        self->released = 0;
        if (!c.interrupted) result = run_result(self, &c, wanted);
    }
    vs_capture_free(&c);
    Py_BEGIN_ALLOW_THREADS machine_let_go(self, VS_NONE);
    Py_END_ALLOW_THREADS Py_DECREF(self);
    return result;
}

PyType_Spec *vs_machine_spec(void) {
    static PyMethodDef methods[] = {
        {"wait", machine_wait, METH_VARARGS, PyDoc_STR("wait(timeout_ns) -> stat | None")},
        {"signal", machine_signal, METH_VARARGS, PyDoc_STR("signal(number)")},
        {"read", machine_read, METH_VARARGS, PyDoc_STR("read(slot, name) -> bytes | None")},
        {"descriptor", machine_descriptor, METH_VARARGS, PyDoc_STR("descriptor(slot) -> int")},
        {"release", machine_release, METH_VARARGS, PyDoc_STR("release(kill_slot)")},
        {"leave", machine_leave, METH_NOARGS, PyDoc_STR("leave(): let it live on")},
        {"fileno", machine_fileno, METH_NOARGS, PyDoc_STR("fileno() -> pidfd")},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef attributes[] = {
        {"pid", machine_pid, NULL, PyDoc_STR("process id on the host"), NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "A launched machine; made by launch()"},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {Py_tp_dealloc, machine_dealloc},
        {0, NULL},
    };
    static PyType_Spec spec = {.name = "viscum._core.Machine",
                               .basicsize = sizeof(struct machine_object),
                               .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                               .slots = slots};
    return &spec;
}
