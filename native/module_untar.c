/* viscum._core.Untar: one layer that is being unpacked. */
#include "module.h"

#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD struct vs_untar *untar;
    int busy;
} Untar;

static PyObject *untar_failure;

/* TarFailure(reason, error number, entry) */
static PyObject *fail(Untar *self, int reason) {
    int error;
    const char *where = vs_untar_where(self->untar, &error);
    PyObject *args = Py_BuildValue("(iiy)", reason, error, where);
    if (args) PyErr_SetObject(untar_failure, args);
    Py_XDECREF(args);
    return NULL;
}

/* Untar(folder, flags, max_bytes, max_entries) */
static PyObject *untar_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    int folder;
    unsigned flags;
    long long max_bytes, max_entries;
    (void)named;
    if (!PyArg_ParseTuple(args, "iILL:Untar", &folder, &flags, &max_bytes, &max_entries))
        return NULL;
    Untar *self = (Untar *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    int own = fcntl(folder, F_DUPFD_CLOEXEC, 3);
    if (own >= 0) self->untar = vs_untar_new(own, flags, max_bytes, max_entries);
    if (self->untar) return (PyObject *)self;
    PyErr_SetFromErrno(PyExc_OSError);
    if (own >= 0) close(own);
    Py_DECREF(self);
    return NULL;
}

static void untar_dealloc(PyObject *object) {
    Untar *self = (Untar *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->untar) vs_untar_free(self->untar);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int enter(Untar *self) {
    if (!__atomic_exchange_n(&self->busy, 1, __ATOMIC_ACQUIRE)) return 0;
    PyErr_SetString(PyExc_RuntimeError, "another thread feeds this archive");
    return -1;
}

static void leave(Untar *self) { __atomic_store_n(&self->busy, 0, __ATOMIC_RELEASE); }

static PyObject *untar_feed(PyObject *object, PyObject *args) {
    Untar *self = (Untar *)object;
    Py_buffer data;
    int reason;
    if (!PyArg_ParseTuple(args, "y*:feed", &data)) return NULL;
    if (enter(self)) return PyBuffer_Release(&data), NULL;
    Py_BEGIN_ALLOW_THREADS;
    reason = vs_untar_feed(self->untar, data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS;
    leave(self);
    PyBuffer_Release(&data);
    if (reason) return fail(self, reason);
    Py_RETURN_NONE;
}

static int append(PyObject *list, PyObject *item) {
    int ret = item ? PyList_Append(list, item) : -1;
    Py_XDECREF(item);
    return ret;
}

/* (entries, bytes, skipped, folders the archive does not mention, hard links to what it lacks) */
static PyObject *told(Untar *self) {
    const struct vs_place *place = vs_untar_place(self->untar);
    PyObject *untold = PyList_New(0), *missing = PyList_New(0);
    int64_t entries, bytes;
    int ret = untold && missing ? 0 : -1;
    for (size_t i = 0; !ret && i < place->folder_count; i++)
        if (!place->folders[i].told)
            ret = append(untold, PyBytes_FromString(place->folders[i].path));
    for (size_t i = 0; !ret && i < place->missing_count; i++)
        ret = append(missing,
                     Py_BuildValue("(yy)", place->missing[i].name, place->missing[i].target));
    vs_untar_counts(self->untar, &entries, &bytes);
    PyObject *all = ret ? NULL
                        : Py_BuildValue("(LLLOO)", (long long)entries, (long long)bytes,
                                        (long long)place->skipped, untold, missing);
    Py_XDECREF(untold);
    Py_XDECREF(missing);
    return all;
}

static PyObject *untar_finish(PyObject *object, PyObject *unused) {
    Untar *self = (Untar *)object;
    int reason;
    (void)unused;
    if (enter(self)) return NULL;
    Py_BEGIN_ALLOW_THREADS;
    reason = vs_untar_finish(self->untar);
    Py_END_ALLOW_THREADS;
    leave(self);
    return reason ? fail(self, reason) : told(self);
}

static PyMethodDef untar_methods[] = {
    {"feed", untar_feed, METH_VARARGS, PyDoc_STR("feed(bytes)")},
    {"finish", untar_finish, METH_NOARGS,
     PyDoc_STR("finish() -> (entries, bytes, skipped, folders untold, links to what is missing)")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot untar_slots[] = {
    {Py_tp_new, untar_new},
    {Py_tp_dealloc, untar_dealloc},
    {Py_tp_methods, untar_methods},
    {Py_tp_doc, (void *)PyDoc_STR("Untar(folder, flags, max_bytes, max_entries)")},
    {0, NULL},
};

static PyType_Spec untar_spec = {
    .name = "viscum._core.Untar",
    .basicsize = sizeof(Untar),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = untar_slots,
};

/* open_inside(folder, path, flags): openat2(2), links resolved within the folder */
PyObject *vs_py_open_inside(PyObject *module, PyObject *args) {
    const char *path;
    int folder, flags;
    (void)module;
    if (!PyArg_ParseTuple(args, "iyi:open_inside", &folder, &path, &flags)) return NULL;
    long fd = vs_open_inside(folder, path, (unsigned)flags);
    return fd >= 0 ? PyLong_FromLong(fd) : PyErr_SetFromErrno(PyExc_OSError);
}

/* sync_file_system(folder): syncfs(2) */
PyObject *vs_py_sync(PyObject *module, PyObject *args) {
    int folder, ret;
    (void)module;
    if (!PyArg_ParseTuple(args, "i:sync_file_system", &folder)) return NULL;
    Py_BEGIN_ALLOW_THREADS;
    ret = syncfs(folder);
    Py_END_ALLOW_THREADS;
    if (ret) return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

/* mount(source, target, kind, flags, options): mount(2) in the caller's own namespace */
PyObject *vs_py_mount(PyObject *module, PyObject *args) {
    const char *source, *target, *kind, *options;
    unsigned long flags;
    (void)module;
    if (!PyArg_ParseTuple(args, "sssks:mount", &source, &target, &kind, &flags, &options))
        return NULL;
    if (mount(source, target, kind, flags, options))
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, target);
    Py_RETURN_NONE;
}

static PyObject *descriptor_of(long fd) {
    if (fd >= 0) return PyLong_FromLong(fd);
    errno = (int)-fd;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* mount_overlay(lower, upper, work): an overlay of folders, attached nowhere */
PyObject *vs_py_mount_overlay(PyObject *module, PyObject *args) {
    struct vs_fault fault = {0};
    const char *lower, *upper, *work;
    (void)module;
    if (!PyArg_ParseTuple(args, "sss:mount_overlay", &lower, &upper, &work)) return NULL;
    const char *const options[][2] = {
        {"lowerdir", lower}, {"upperdir", upper}, {"workdir", work}, {NULL, NULL}};
    return descriptor_of(vs_mount_detached("overlay", options, 0, &fault));
}

/* mount_erofs(file): a mount of the image in a file, attached nowhere */
PyObject *vs_py_mount_erofs(PyObject *module, PyObject *args) {
    struct vs_fault fault = {0};
    int file;
    (void)module;
    if (!PyArg_ParseTuple(args, "i:mount_erofs", &file)) return NULL;
    return descriptor_of(vs_mount_erofs(file, &fault));
}

PyObject *vs_py_unmount(PyObject *module, PyObject *args) {
    const char *target;
    (void)module;
    if (!PyArg_ParseTuple(args, "s:unmount", &target)) return NULL;
    if (umount2(target, UMOUNT_NOFOLLOW))
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, target);
    Py_RETURN_NONE;
}

int vs_add_untar(PyObject *module) {
    PyObject *type = PyType_FromSpec(&untar_spec);
    untar_failure = PyErr_NewException("viscum._core.TarFailure", NULL, NULL);
    if (!type || !untar_failure) return -1;
    int ret = PyModule_AddObjectRef(module, "Untar", type);
    Py_DECREF(type);
    return ret ? ret : PyModule_AddObjectRef(module, "TarFailure", untar_failure);
}
