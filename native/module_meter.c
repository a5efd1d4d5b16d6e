/* viscum._core.Meter: the figures of many machines, by their ids. */
#include "meter.h"
#include "module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_A_THREAD 128

struct known {
    struct vs_row row;
    PyObject *id;
};

struct meter_object {
    PyObject_HEAD struct vs_row **rows; /* each one the first part of a `known` */
    long count, room;
    pthread_mutex_t lock; /* of all of this, for whoever adds while another one reads */
};

static PyTypeObject *figures_type;

static PyStructSequence_Field fields[] = {
    {"cpu_seconds", NULL},
    {"user_seconds", NULL},
    {"system_seconds", NULL},
    {"periods", NULL},
    {"throttled_periods", NULL},
    {"throttled_seconds", NULL},
    {"memory_bytes", NULL},
    {"peak_bytes", NULL},
    {"working_set_bytes", NULL},
    {"swap_bytes", NULL},
    {"refaults", NULL},
    {"oom_kills", NULL},
    {"pids", NULL},
    {"read_bytes", NULL},
    {"written_bytes", NULL},
    {"reads", NULL},
    {"writes", NULL},
    {"cpu_some_avg10", NULL},
    {"cpu_full_avg10", NULL},
    {"cpu_some_seconds", NULL},
    {"cpu_full_seconds", NULL},
    {"memory_some_avg10", NULL},
    {"memory_full_avg10", NULL},
    {"memory_some_seconds", NULL},
    {"memory_full_seconds", NULL},
    {"io_some_avg10", NULL},
    {"io_full_avg10", NULL},
    {"io_some_seconds", NULL},
    {"io_full_seconds", NULL},
    {NULL, NULL},
};
_Static_assert(sizeof fields / sizeof fields[0] == VS_FIGURES + 1, "a name for each figure");

static PyObject *to_figures(const double *figures) {
    PyObject *made = PyStructSequence_New(figures_type);
    for (int i = 0; made && i < VS_FIGURES; i++) {
        int counts = i >= VS_PERIODS && i < VS_CPU_PRESSURE && i != VS_THROTTLED_SECONDS;
        PyObject *value =
            counts ? PyLong_FromLongLong((long long)figures[i]) : PyFloat_FromDouble(figures[i]);
        if (!value) {
            Py_DECREF(made);
            return NULL;
        }
        PyStructSequence_SetItem(made, i, value);
    }
    return made;
}

static void forget(struct meter_object *self, long place) {
    struct known *known = (struct known *)self->rows[place];
    vs_row_close(&known->row);
    Py_DECREF(known->id);
    free(known);
    self->rows[place] = self->rows[--self->count];
}

static int make_room(struct meter_object *self) {
    if (self->count < self->room) return 0;
    long room = self->room ? self->room * 2 : 16;
    struct vs_row **rows = realloc(self->rows, (size_t)room * sizeof *rows);
    if (!rows) return -1;
    self->rows = rows;
    self->room = room;
    return 0;
}

static int take_file(struct vs_row *row, PyObject *file) {
    const char *path;
    int kind;
    if (!PyArg_ParseTuple(file, "is", &kind, &path)) return -1;
    if (kind < 0 || kind >= VS_METER_KINDS || row->count == VS_METER_FILES) {
        PyErr_SetString(PyExc_ValueError, "no such kind of file, or too many");
        return -1;
    }
    row->kinds[row->count] = kind;
    row->fds[row->count] = -1;
    row->paths[row->count] = strdup(path);
    if (row->paths[row->count]) return row->count++;
    PyErr_NoMemory();
    return -1;
}

static int take_files(struct vs_row *row, PyObject *files) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(files); i++)
        if (take_file(row, PyTuple_GetItem(files, i)) < 0) return -1;
    return 0;
}

/* add(id, files, most): a row; files are pairs of a kind and a path. */
static PyObject *meter_add(PyObject *object, PyObject *args) {
    struct meter_object *self = (struct meter_object *)object;
    PyObject *id, *files;
    int most, full;
    if (!PyArg_ParseTuple(args, "UO!i:add", &id, &PyTuple_Type, &files, &most)) return NULL;
    struct known *known = calloc(1, sizeof *known);
    if (!known) return PyErr_NoMemory();
    if (take_files(&known->row, files) < 0) goto failed;
    Py_INCREF(id);
    known->id = id;
    Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&self->lock);
    vs_row_open(&known->row, most);
    full = make_room(self) < 0;
    if (!full) self->rows[self->count++] = &known->row;
    pthread_mutex_unlock(&self->lock);
    Py_END_ALLOW_THREADS if (!full) Py_RETURN_NONE;
    Py_DECREF(id);
    PyErr_NoMemory();
failed:
    vs_row_close(&known->row);
    free(known);
    return NULL;
}

/* remove(id): whether it was there. */
static PyObject *meter_remove(PyObject *object, PyObject *id) {
    struct meter_object *self = (struct meter_object *)object;
    int found = 0;
    Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&self->lock);
    Py_END_ALLOW_THREADS for (long i = 0; i < self->count && !found; i++) {
        found = PyUnicode_Compare(((struct known *)self->rows[i])->id, id) == 0;
        if (found) forget(self, i);
    }
    pthread_mutex_unlock(&self->lock);
    return PyBool_FromLong(found);
}

/* read(threads): a dictionary of figures by id. */
static PyObject *meter_read(PyObject *object, PyObject *args) {
    struct meter_object *self = (struct meter_object *)object;
    int threads;
    if (!PyArg_ParseTuple(args, "i:read", &threads)) return NULL;
    Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&self->lock);
    if (threads > 1 + self->count / ROWS_A_THREAD) threads = 1 + (int)(self->count / ROWS_A_THREAD);
    vs_meter_read(self->rows, self->count, threads);
    Py_END_ALLOW_THREADS PyObject *found = PyDict_New();
    for (long i = 0; found && i < self->count; i++) {
        if (self->rows[i]->gone) continue;
        PyObject *figures = to_figures(self->rows[i]->figures);
        PyObject *id = ((struct known *)self->rows[i])->id;
        if (!figures || PyDict_SetItem(found, id, figures) < 0) Py_CLEAR(found);
        Py_XDECREF(figures);
    }
    pthread_mutex_unlock(&self->lock);
    return found;
}

static PyObject *meter_close(PyObject *object, PyObject *unused) {
    struct meter_object *self = (struct meter_object *)object;
    (void)unused;
    Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&self->lock);
    Py_END_ALLOW_THREADS while (self->count) forget(self, self->count - 1);
    pthread_mutex_unlock(&self->lock);
    Py_RETURN_NONE;
}

static PyObject *meter_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    (void)named;
    if (!PyArg_ParseTuple(args, ":Meter")) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct meter_object *self = (struct meter_object *)allocate(type, 0);
    if (self) pthread_mutex_init(&self->lock, NULL);
    return (PyObject *)self;
}

static void meter_dealloc(PyObject *object) {
    struct meter_object *self = (struct meter_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    while (self->count) forget(self, self->count - 1);
    free(self->rows);
    pthread_mutex_destroy(&self->lock);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

PyTypeObject *vs_figures_make(void) {
    static PyStructSequence_Desc description = {
        .name = "viscum._core.Figures",
        .doc = "What a machine has used; seconds, bytes and counts, pressure as shares",
        .fields = fields,
        .n_in_sequence = VS_FIGURES,
    };
    figures_type = PyStructSequence_NewType(&description);
    return figures_type;
}

PyType_Spec *vs_meter_spec(void) {
    static PyMethodDef methods[] = {
        {"add", meter_add, METH_VARARGS, PyDoc_STR("add(id, files, most)")},
        {"remove", meter_remove, METH_O, PyDoc_STR("remove(id) -> bool")},
        {"read", meter_read, METH_VARARGS, PyDoc_STR("read(threads) -> {id: Figures}")},
        {"close", meter_close, METH_NOARGS, PyDoc_STR("close()")},
        {NULL, NULL, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "The figures of many machines"},
        {Py_tp_new, meter_new},
        {Py_tp_methods, methods},
        {Py_tp_dealloc, meter_dealloc},
        {0, NULL},
    };
    static PyType_Spec spec = {.name = "viscum._core.Meter",
                               .basicsize = sizeof(struct meter_object),
                               .flags = Py_TPFLAGS_DEFAULT,
                               .slots = slots};
    return &spec;
}
