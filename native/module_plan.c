/* viscum._core.Plan: a decoded plan with what its `load` section opened. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *bytes;
    Py_ssize_t size;
    struct vs_report report;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#:Plan", &bytes, &size)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct plan_object *self = (struct plan_object *)allocate(type, 0);
    if (!self) return NULL;
    for (int i = 0; i < VS_SLOTS; i++) self->plan.slots[i] = -1;
    self->bytes = malloc((size_t)size + 1);
    if (!self->bytes) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    memcpy(self->bytes, bytes, (size_t)size);
    int ret = vs_plan_decode(&self->plan, self->bytes, (size_t)size, &report);
    Py_BEGIN_ALLOW_THREADS if (ret == 0) ret = vs_plan_load(&self->plan, &report);
    Py_END_ALLOW_THREADS if (ret == 0) return (PyObject *)self;
    Py_DECREF(self);
    return vs_raise(&report);
}

static void plan_dealloc(PyObject *object) {
    struct plan_object *self = (struct plan_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    vs_plan_unload(&self->plan);
    free(self->bytes);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

PyType_Spec *vs_plan_spec(void) {
    static PyType_Slot slots[] = {
        {Py_tp_doc, "Plan(bytes): a decoded plan, loaded on this host"},
        {Py_tp_new, plan_new},
        {Py_tp_dealloc, plan_dealloc},
        {0, NULL},
    };
    static PyType_Spec spec = {.name = "viscum._core.Plan",
                               .basicsize = sizeof(struct plan_object),
                               .flags = Py_TPFLAGS_DEFAULT,
                               .slots = slots};
    return &spec;
}
