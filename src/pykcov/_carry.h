/* Around(before, function, after): calls all three, as a function of its own without a frame of its own, so that
 * a traceback of the program shows what it would without pykcov. */

typedef struct {
    PyObject_HEAD
    PyObject *before, *function, *after; /* after: None for nothing */
} AroundObject;

static PyObject *around_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    PyObject *before, *function, *after;
    if (!PyArg_ParseTuple(args, "OOO:Around", &before, &function, &after))
        return NULL;
    AroundObject *a = (AroundObject *)type->tp_alloc(type, 0);
    if (a) {
        a->before = Py_NewRef(before);
        a->function = Py_NewRef(function);
        a->after = Py_NewRef(after);
    }
    return (PyObject *)a;
}

static PyObject *around_call(AroundObject *a, PyObject *args, PyObject *kw)
{
    enter_own();
    PyObject *opened = PyObject_CallNoArgs(a->before);
    leave_own();
    if (!opened && !contained())
        return NULL;
    PyObject *result = PyObject_Call(a->function, args, kw);
    if (opened && a->after != Py_None) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        enter_own();
        PyObject *done = PyObject_CallOneArg(a->after, opened);
        leave_own();
        if (!done && !contained()) {
            Py_XDECREF(type);
            Py_XDECREF(value);
            Py_XDECREF(traceback);
            Py_CLEAR(result);
        } else {
            Py_XDECREF(done);
            PyErr_Restore(type, value, traceback);
        }
    }
    Py_XDECREF(opened);
    return result;
}

static int around_traverse(AroundObject *a, visitproc visit, void *arg)
{
    Py_VISIT(a->before);
    Py_VISIT(a->function);
    Py_VISIT(a->after);
    return 0;
}

static int around_clear(AroundObject *a)
{
    Py_CLEAR(a->before);
    Py_CLEAR(a->function);
    Py_CLEAR(a->after);
    return 0;
}

static void around_free(AroundObject *a)
{
    PyObject_GC_UnTrack(a);
    around_clear(a);
    Py_TYPE(a)->tp_free((PyObject *)a);
}

static PyObject *around_reduce(AroundObject *a, PyObject *Py_UNUSED(arg))
{
    return Py_BuildValue("O(OOO)", Py_TYPE(a), a->before, a->function, a->after);
}

static PyMethodDef around_methods[] = {
    {"__reduce__", (PyCFunction)around_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject AroundType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Around",
    .tp_basicsize = sizeof(AroundObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = around_new,
    .tp_dealloc = (destructor)around_free,
    .tp_traverse = (traverseproc)around_traverse,
    .tp_clear = (inquiry)around_clear,
    .tp_call = (ternaryfunc)around_call,
    .tp_methods = around_methods,
};

/* FirstOf(first, second), a method: what first(...) returns, or where that is None what second(...) does, without a frame
 * of its own. What is pykcov's own fault in `first` is None. */

typedef struct {
    PyObject_HEAD
    PyObject *first, *second;
} FirstOfObject;

static PyObject *firstof_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    PyObject *first, *second;
    if (!PyArg_ParseTuple(args, "OO:FirstOf", &first, &second))
        return NULL;
    FirstOfObject *f = (FirstOfObject *)type->tp_alloc(type, 0);
    if (f) {
        f->first = Py_NewRef(first);
        f->second = Py_NewRef(second);
    }
    return (PyObject *)f;
}

static PyObject *firstof_call(FirstOfObject *f, PyObject *args, PyObject *kw)
{
    enter_own();
    PyObject *result = PyObject_Call(f->first, args, kw);
    leave_own();
    if (!result && !contained())
        return NULL;
    if (result && result != Py_None)
        return result;
    Py_XDECREF(result);
    return PyObject_Call(f->second, args, kw);
}

static PyObject *firstof_get(PyObject *f, PyObject *owner, PyObject *Py_UNUSED(type))
{
    return owner && owner != Py_None ? PyMethod_New(f, owner) : Py_NewRef(f);
}

static int firstof_traverse(FirstOfObject *f, visitproc visit, void *arg)
{
    Py_VISIT(f->first);
    Py_VISIT(f->second);
    return 0;
}

static int firstof_clear(FirstOfObject *f)
{
    Py_CLEAR(f->first);
    Py_CLEAR(f->second);
    return 0;
}

static void firstof_free(FirstOfObject *f)
{
    PyObject_GC_UnTrack(f);
    firstof_clear(f);
    Py_TYPE(f)->tp_free((PyObject *)f);
}

static PyTypeObject FirstOfType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.FirstOf",
    .tp_basicsize = sizeof(FirstOfObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = firstof_new,
    .tp_dealloc = (destructor)firstof_free,
    .tp_traverse = (traverseproc)firstof_traverse,
    .tp_clear = (inquiry)firstof_clear,
    .tp_call = (ternaryfunc)firstof_call,
    .tp_descr_get = firstof_get,
};
