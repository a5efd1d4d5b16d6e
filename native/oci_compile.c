/* viscum-oci-compile PYTHON -IS -c PROGRAM ARGUMENTS...: run PROGRAM as PYTHON would, but sooner.
 *
 * Half of what an interpreter takes to start goes into what a plan is compiled without: text
 * streams, codecs, the search for modules. This one is linked statically and stops before all
 * that. It has the built-in and frozen modules, `_json`, and what is gathered in one file
 * (viscum.oci.gathered). Whatever raises for want of more, PYTHON does from the beginning: nothing
 * was launched by then, and `create` takes back what it made before an exception leaves it. */
#include <Python.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In place of the archive's own table, which would bring in every library that Python can use. */
/* clang-format off */
#define MODULES(X) \
    X(_abc) X(_codecs) X(_imp) X(_io) X(_stat) X(_string) X(_thread) X(_weakref) X(errno) X(gc) \
    X(itertools) X(posix) X(time)
/* clang-format on */
#define DECLARE(name) extern PyObject *PyInit_##name(void);
#define ROW(name)     {#name, PyInit_##name},
MODULES(DECLARE)
extern PyObject *PyMarshal_Init(void);
extern PyObject *_PyWarnings_Init(void);
struct _inittab _PyImport_Inittab[] = {MODULES(ROW){"marshal", PyMarshal_Init},
                                       {"_warnings", _PyWarnings_Init},
                                       {"builtins", NULL},
                                       {"sys", NULL},
                                       {NULL, NULL}};

static const char preparation[] =
    "import _imp, _io, builtins, sys\n"
    "builtins.open = _io.open\n"
    "sys.path = []\n"
    "sys.stdout = sys.stderr\n"
    "json = _imp.create_dynamic(type(sys.__spec__)('_json', None, origin='" VISCUM_JSON "'))\n"
    "_imp.exec_dynamic(json)\n"
    "sys.modules['_json'] = json\n";

static int start(void) {
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1;
    PyConfig_InitIsolatedConfig(&config);
    config._init_main = 0;
    config.site_import = config.write_bytecode = config.parse_argv = 0;
    config.install_signal_handlers = config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1;
    wchar_t **const paths[] = {&config.executable,  &config.base_executable,
                               &config.prefix,      &config.base_prefix,
                               &config.exec_prefix, &config.base_exec_prefix,
                               &config.stdlib_dir}; /* which would be searched for otherwise */
    PyStatus status = Py_PreInitialize(&before);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0] && !PyStatus_Exception(status); i++)
        status = PyConfig_SetString(&config, paths[i], L"/");
    if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
    return PyStatus_Exception(status) ? -1 : 0;
}

static int set_words(int argc, char **argv) {
    PyObject *words = PyList_New(0);
    for (int i = 0; words && i < argc; i++) {
        PyObject *word = PyUnicode_DecodeFSDefault(argv[i]);
        if (!word || PyList_Append(words, word) < 0) return -1;
        Py_DECREF(word);
    }
    return words ? PySys_SetObject("argv", words) : -1;
}

static void run(const char *program) {
    PyObject *space = PyDict_New();
    if (!space || PyDict_SetItemString(space, "__builtins__", PyEval_GetBuiltins()) < 0) return;
    if (PyRun_String(preparation, Py_file_input, space, space))
        PyRun_String(program, Py_file_input, space, space); /* which does not return */
}

int main(int argc, char **argv) {
    if (argc < 5) return 125;
    argv[3] = "-c";
    if (start() == 0 && set_words(argc - 4, argv + 4) == 0) run(argv[4]);
    execv(argv[1], argv + 1);
    return 127;
}
