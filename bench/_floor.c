/* The floor of the interpreter's mechanism: callbacks that do nothing. Compiled by floor.py when it is needed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>

static PyObject *callback(PyObject *Py_UNUSED(m), PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    Py_RETURN_NONE;
}

static int nothing(PyObject *Py_UNUSED(self), PyFrameObject *Py_UNUSED(frame), int Py_UNUSED(what),
                   PyObject *Py_UNUSED(arg))
{
    return 0;
}

static PyObject *trace(PyObject *Py_UNUSED(m), PyObject *on)
{
    PyEval_SetTrace(on == Py_True ? nothing : NULL, NULL);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"callback", (PyCFunction)(void (*)(void))callback, METH_FASTCALL, "for sys.monitoring"},
    {"trace", trace, METH_O, "trace(on): a trace function for this thread, or none"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_floor", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__floor(void) { return PyModule_Create(&module); }
