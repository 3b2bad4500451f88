/* remote(handle): an annotation, at next to no cost while nobody listens; and the handle table for Python. */

/* Returns NOT_LISTENED without an exception for what can't be a handle: nobody listens to that. */
static find_t find_handle(PyObject *handle, PyObject **device)
{
    uint64_t found = 0;
    unsigned long long value = PyLong_CheckExact(handle) ? PyLong_AsUnsignedLongLong(handle) : 0;
    find_t result = UNSETTLED;
    if (PyErr_Occurred())
        PyErr_Clear();
    else if (state.table.entries && value)
        result = table_find(&state.table, value, &found);
    if (result == NOT_LISTENED)
        return NOT_LISTENED;
    if (result == LISTENED) {
        *device = PyLong_FromUnsignedLongLong(found);
        return *device ? LISTENED : UNSETTLED;
    }
    /* Unusual: not mapped yet, not settled, an int's subclass, or not a handle at all. */
    if (!state.find)
        return NOT_LISTENED;
    enter_own();
    *device = PyObject_CallOneArg(state.find, handle);
    leave_own();
    if (!*device)
        return contained() ? NOT_LISTENED : UNSETTLED;
    if (*device != Py_None)
        return LISTENED;
    Py_CLEAR(*device);
    return NOT_LISTENED;
}

static PyObject *find(PyObject *Py_UNUSED(module), PyObject *handle)
{
    PyObject *device = NULL;
    find_t result = find_handle(handle, &device);
    if (result == UNSETTLED)
        return NULL;
    return result == LISTENED ? device : Py_NewRef(Py_None);
}

typedef struct {
    PyObject_HEAD
    PyObject *handle;
    PyObject *sections; /* list of the sections that it opened, NULL before the first */
    Py_ssize_t idle;    /* how often it was entered while nobody listened, and not left */
} RemoteObject;

static PyObject *remote_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    static char *names[] = {"handle", NULL};
    PyObject *handle;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "O:remote", names, &handle))
        return NULL;
    RemoteObject *r = (RemoteObject *)type->tp_alloc(type, 0);
    if (r)
        r->handle = Py_NewRef(handle);
    return (PyObject *)r;
}

static PyObject *remote_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names)
{
    if (PyVectorcall_NARGS(nargsf) != 1 || names)
        return PyVectorcall_NARGS(nargsf) == 0 && names && PyTuple_GET_SIZE(names) == 1 &&
                       PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "handle") == 0
                   ? remote_vectorcall(type, args, 1, NULL)
                   : PyErr_Format(PyExc_TypeError, "remote() takes one argument, the handle");
    RemoteObject *r = (RemoteObject *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    if (r)
        r->handle = Py_NewRef(args[0]);
    return (PyObject *)r;
}

static void remote_free(RemoteObject *r)
{
    Py_CLEAR(r->handle);
    Py_CLEAR(r->sections);
    Py_TYPE(r)->tp_free((PyObject *)r);
}

static PyObject *remote_enter(RemoteObject *r, PyObject *Py_UNUSED(arg))
{
    PyObject *device = NULL, *section = NULL;
    find_t result = find_handle(r->handle, &device);
    if (result == UNSETTLED)
        return NULL;
    if (result == LISTENED) {
        enter_own();
        section = enter(r->handle, device, own_task(THIS_THREAD()), 0);
        leave_own();
        Py_DECREF(device);
        if (!section && !contained())
            return NULL;
    }
    if (section && section != Py_None) {
        if (!r->sections && !(r->sections = PyList_New(0))) {
            Py_DECREF(section);
            return NULL;
        }
        if (PyList_Append(r->sections, section) < 0) {
            Py_DECREF(section);
            return NULL;
        }
    } else
        r->idle++;
    Py_XDECREF(section);
    return Py_NewRef(r);
}

/* Which of its sections the block of the current task has opened, -1 for none. */
static Py_ssize_t find_own(const RemoteObject *r)
{
    const TaskObject *owner = own_task(THIS_THREAD());
    Py_ssize_t i = PyList_GET_SIZE(r->sections) - 1;
    for (; i >= 0; i--) {
        const SectionObject *x = (SectionObject *)PyList_GET_ITEM(r->sections, i);
        if (x->task == owner || x->process != state.process)
            break;
    }
    return i;
}

/* Ends the section that the block has opened. Returns 0, or -1 with an exception. */
static int leave_block(RemoteObject *r)
{
    const Py_ssize_t own = find_own(r), last = PyList_GET_SIZE(r->sections) - 1, i = own < 0 ? last : own;
    if (own < 0 && r->idle) {
        r->idle--;
        return 0;
    }
    SectionObject *x = (SectionObject *)Py_NewRef(PyList_GET_ITEM(r->sections, i));
    int failed = PyList_SetSlice(r->sections, i, i + 1, NULL) < 0 || leave(x) < 0;
    Py_DECREF(x);
    if (own < 0 && !failed) {
        PyObject *done = PyObject_CallFunction(
            state.warn, "s", "remote: the block ends in another task than it began in; its section ends here");
        failed = !done;
        Py_XDECREF(done);
    }
    return failed ? -1 : 0;
}

static PyObject *remote_exit(RemoteObject *r, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    if (!r->sections || PyList_GET_SIZE(r->sections) == 0) {
        r->idle--;
        Py_RETURN_NONE;
    }
    enter_own();
    const int failed = leave_block(r);
    leave_own();
    return failed && !contained() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef remote_methods[] = {
    {"__enter__", (PyCFunction)remote_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))remote_exit, METH_FASTCALL, NULL},
    {NULL},
};

PyDoc_STRVAR(remote_doc,
"remote(handle)\n--\n\n"
"A context manager: the block is a section that works for whoever enabled ``handle``.\n\n"
"``handle`` is a u64, or what common_handle() returned. If nobody in the namespace enabled it, nothing\n"
"happens, at the cost of a function call and a memory read. It never raises: what cannot be a handle\n"
"gives a KcovWarning. One object may be used again, nested, and by several threads at once.\n"
"Source: kcov_remote_start / kcov_remote_stop of the patch.");

static PyTypeObject RemoteType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov.remote",
    .tp_basicsize = sizeof(RemoteObject),
    .tp_flags = Py_TPFLAGS_DEFAULT, /* no GC: nothing in it leads back to it, and it is cheaper */
    .tp_doc = remote_doc,
    .tp_new = remote_new,
    .tp_vectorcall = remote_vectorcall,
    .tp_dealloc = (destructor)remote_free,
    .tp_methods = remote_methods,
};

/* The table, seen from registry.py: it holds the lock around insert() and remove(). */

static PyObject *map_table(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer header, entries;
    if (!PyArg_ParseTuple(args, "w*w*", &header, &entries))
        return NULL;
    uint64_t n = (uint64_t)entries.len / sizeof(entry_t);
    if (header.len < HEADER_WORDS * 8 || n == 0 || (n & (n - 1))) {
        PyBuffer_Release(&header);
        PyBuffer_Release(&entries);
        PyErr_SetString(PyExc_ValueError, "the number of entries is not a power of two");
        return NULL;
    }
    PyBuffer_Release(&state.header_buffer);
    PyBuffer_Release(&state.entries_buffer);
    state.header_buffer = header;
    state.entries_buffer = entries;
    state.table = (table_t){header.buf, entries.buf, n - 1, load((uint64_t *)header.buf + HEADER_GENERATION)};
    Py_RETURN_NONE;
}

static PyObject *unmap_table(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    state.table = (table_t){0};
    PyBuffer_Release(&state.header_buffer);
    PyBuffer_Release(&state.entries_buffer);
    Py_RETURN_NONE;
}

static PyObject *generation(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    return PyLong_FromUnsignedLongLong(state.table.generation);
}

/* Makes the version odd for as long as the table is changed. A writer that died left it odd. */
static void begin(void) { store(&state.table.header[HEADER_VERSION], state.table.header[HEADER_VERSION] | 1); }
static void end(void) { store(&state.table.header[HEADER_VERSION], state.table.header[HEADER_VERSION] + 1); }

static PyObject *change(PyObject *args, int insert)
{
    PyObject *handles;
    unsigned long long device;
    if (!PyArg_ParseTuple(args, "O!K", &PyTuple_Type, &handles, &device))
        return NULL;
    if (!state.table.entries)
        return PyErr_Format(PyExc_ValueError, "no table is mapped");
    Py_ssize_t n = PyTuple_GET_SIZE(handles), i, done = 0;
    uint64_t *count = &state.table.header[HEADER_COUNT];
    for (i = 0; i < n; i++)
        if (PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(handles, i)) - 1 >= UINT64_MAX - 1 && PyErr_Occurred())
            return NULL;
    begin();
    for (i = 0; i < n; i++) {
        uint64_t handle = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(handles, i));
        if (insert ? table_insert(&state.table, handle, device) : table_remove(&state.table, handle, device))
            done++;
        else if (insert)
            break;
    }
    if (insert && i < n) /* all or nothing */
        for (Py_ssize_t j = 0; j < i; j++)
            table_remove(&state.table, PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(handles, j)), device);
    else
        store(count, *count + (uint64_t)(insert ? done : -done));
    end();
    return Py_NewRef(i < n ? PyTuple_GET_ITEM(handles, i) : Py_None);
}

static PyObject *insert(PyObject *Py_UNUSED(module), PyObject *args) { return change(args, 1); }
static PyObject *remove_(PyObject *Py_UNUSED(module), PyObject *args) { return change(args, 0); }
