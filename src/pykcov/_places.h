/* Places: the PCs of a file, when somebody has asked for them. Probes in its code point here. */

typedef struct {
    PyObject_HEAD
    uint64_t mask; /* the scopes that the file is in; 0 also while its PCs are not known */
    uint64_t *pcs;
    Py_ssize_t n;
} PlacesObject;

static PyTypeObject PlacesType;

static void places_free(PlacesObject *p)
{
    PyMem_Free(p->pcs);
    Py_TYPE(p)->tp_free((PyObject *)p);
}

/* fill(pcs, mask) */
static PyObject *places_fill(PlacesObject *p, PyObject *args)
{
    Py_buffer pcs;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "y*K", &pcs, &mask))
        return NULL;
    uint64_t *copy = PyMem_Malloc((size_t)pcs.len + 1);
    if (!copy) {
        PyBuffer_Release(&pcs);
        return PyErr_NoMemory();
    }
    memcpy(copy, pcs.buf, (size_t)pcs.len);
    PyMem_Free(p->pcs);
    p->pcs = copy;
    p->n = pcs.len / 8;
    p->mask = mask;
    PyBuffer_Release(&pcs);
    Py_RETURN_NONE;
}

static PyMethodDef places_methods[] = {
    {"fill", (PyCFunction)places_fill, METH_VARARGS, NULL},
    {NULL},
};

static PyMemberDef places_members[] = {
    {"mask", T_ULONGLONG, offsetof(PlacesObject, mask), READONLY, "bits of the scopes that the file is in"},
    {NULL},
};

static PyTypeObject PlacesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Places",
    .tp_basicsize = sizeof(PlacesObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)places_free,
    .tp_methods = places_methods,
    .tp_members = places_members,
};
