/* The Python face of the core: limited API, no policy, no prose. */
#ifndef VISCUM_MODULE_H
#define VISCUM_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "capture.h"

#include <pthread.h>

struct plan_object {
    PyObject_HEAD struct vs_plan plan;
    char *bytes;
};

struct machine_object {
    PyObject_HEAD struct vs_machine machine;
    struct plan_object *plan;
    char *id;
    struct vs_stat stat;
    pid_t owner; /* the process that launched it: nobody else may end it */
    int reaped, released;
    pthread_mutex_t lock; /* of reaped, released and stat */
};

extern PyTypeObject *vs_plan_type, *vs_machine_type;
extern PyObject *vs_failure;

VS_PRIVATE PyType_Spec *vs_plan_spec(void);
VS_PRIVATE PyType_Spec *vs_machine_spec(void);
VS_PRIVATE PyType_Spec *vs_meter_spec(void);
VS_PRIVATE PyTypeObject *vs_figures_make(void);
VS_PRIVATE PyObject *vs_py_run(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_launch(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_open_at(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_enter(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_watch(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_watch_use(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_wait_pressure(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_raise(const struct vs_report *report);
VS_PRIVATE PyObject *vs_stat_tuple(const struct vs_stat *stat);
VS_PRIVATE int vs_host_pidfd(void);
VS_PRIVATE PyObject *vs_py_open_inside(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_mount_erofs(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_mount_overlay(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_mount(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_unmount(PyObject *module, PyObject *args);
VS_PRIVATE PyObject *vs_py_sync(PyObject *module, PyObject *args);
VS_PRIVATE int vs_add_untar(PyObject *module);

#endif
