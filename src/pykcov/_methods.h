/* Methods of texts that compare, regular expressions and look-ups; and the type of a site. */

/* A method that was looked up, and is about to be called. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    SiteObject *site;
    PyObject *method, *self;
} BoundObject;

static void bound_free(BoundObject *b)
{
    Py_DECREF(b->site);
    Py_DECREF(b->method);
    Py_DECREF(b->self);
    PyObject_Free(b);
}

/* Where in a text an argument says that a part of it begins or ends: an int, as any other object would have to be asked.
 * Methods of texts count negative ones from the end, regular expressions have 0 for them. */
static Py_ssize_t place_in(PyObject *argument, Py_ssize_t length, Py_ssize_t otherwise, int from_end)
{
    int overflow;
    if (!argument || !PyLong_Check(argument))
        return otherwise;
    long long at = PyLong_AsLongLongAndOverflow(argument, &overflow);
    if (at < 0 && !overflow && from_end)
        at += length;
    return overflow > 0 || at > length ? length : at < 0 ? 0 : (Py_ssize_t)at;
}

/* An argument by its position or its name; NULL if it is not given. */
static PyObject *argument(PyObject *const *args, Py_ssize_t n, PyObject *names, Py_ssize_t at, const char *name)
{
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(names); i++)
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), name) == 0)
            return args[n + i];
    return at < n ? args[at] : NULL;
}

/* What a str, bytes or bytearray is asked for: the part of it where that is looked for. */
static int record_text(const SiteObject *s, TaskObject *task, PyObject *text, PyObject *const *args, Py_ssize_t n)
{
    int failed = 0, has_range = s->extra == Py_True; /* else what follows is a number of splits */
    Py_ssize_t length = length_of(text), m = PyTuple_Check(args[0]) ? 0 : -1;
    Py_ssize_t start = place_in(has_range && n > 1 ? args[1] : NULL, length, 0, 1);
    Py_ssize_t end = place_in(has_range && n > 2 ? args[2] : NULL, length, length, 1);
    /* Of a long one its end, in a character's bytes at the most. */
    Py_ssize_t most = PyUnicode_Check(text) && !PyUnicode_IS_ASCII(text) ? OPERAND_LIMIT / 4 : OPERAND_LIMIT;
    int is_end = s->what == SUFFIX && end - start > most;
    operand_t a, b;
    take_part(&a, text, is_end ? end - most : start < end ? start : end, end);
    a.cut |= (uint8_t)is_end;
    do {
        PyObject *asked = m < 0 ? args[0] : m < PyTuple_GET_SIZE(args[0]) ? PyTuple_GET_ITEM(args[0], m) : NULL;
        if (!asked)
            break;
        take(&b, asked);
        if (record_operands(task, s->places->mask, *s->pcs, s->constant, &a, &b) < 0)
            failed = -1;
    } while (m >= 0 && ++m < ELEMENTS_LIMIT);
    return failed;
}

/* Copies what a pattern's text begins with before it becomes more than text; returns how many bytes that is. */
static size_t literal_prefix(PyObject *pattern, uint8_t *prefix)
{
    operand_t text;
    take(&text, pattern);
    const uint8_t *from = text.bytes ? text.bytes : (const uint8_t *)&text.word;
    size_t n = 0, start = 0;
    for (size_t i = from[0] == '^'; i < text.length; i++) {
        uint8_t c = from[i];
        if (c == '*' || c == '?' || c == '{')
            return start; /* what is before may be missing */
        if (c == '\\' && i + 1 < text.length && !Py_ISALNUM(from[i + 1]) && from[i + 1] < 0x80)
            c = from[++i];
        else if (strchr("\\.$+[](|)", c) && c)
            break;
        if ((c & 0xc0) != 0x80)
            start = n;
        prefix[n++] = c;
    }
    return n;
}

/* What a regular expression is compared with: the part of the subject between what `pos` and `endpos` are. */
static int record_regex(const SiteObject *s, TaskObject *task, PyObject *pattern, PyObject *subject, PyObject *pos,
                        PyObject *endpos)
{
    PyObject *text = NULL;
    if (Py_IS_TYPE(pattern, (PyTypeObject *)PyTuple_GET_ITEM(s->extra, 0)))
        pattern = text = PyObject_GetAttrString(pattern, "pattern"); /* a member of a struct */
    if (!pattern)
        return -1;
    int failed = 0;
    if (is_text(pattern) && is_text(subject)) {
        operand_t a, b;
        size_t n = literal_prefix(pattern, b.copy);
        Py_ssize_t length = length_of(subject), start = place_in(pos, length, 0, 0);
        Py_ssize_t end = place_in(endpos, length, length, 0);
        take_part(&a, subject, start < end ? start : end, end);
        take_bytes(&b, PyUnicode_Check(pattern) ? STR : BYTES, b.copy, n, 0);
        if (n)
            failed = record_operands(task, s->places->mask, *s->pcs, s->constant, &a, &b);
    }
    Py_XDECREF(text);
    return failed;
}

static PyObject *bound_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    BoundObject *b = (BoundObject *)self;
    const SiteObject *s = b->site;
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);
    TaskObject *task;
    if (s->what == GET && (n == 1 || n == 2) && !names && is_looked_up(args[0], b->self)) {
        PyObject *value = Py_XNewRef(PyDict_GetItemWithError(b->self, args[0]));
        int is_in = value != NULL;
        if (!value && !PyErr_Occurred())
            value = Py_NewRef(n == 2 ? args[1] : Py_None);
        return looked_up(s, args[0], b->self, is_in, value);
    }
    int wanted = is_wanted(s, &task);
    if (wanted > 0 && n) {
        if (s->what == REGEX) {
            if (b->self != b->method)
                wanted = record_regex(s, task, b->self, args[0], argument(args, n, names, 1, "pos"),
                                      argument(args, n, names, 2, "endpos"));
            else if (n > 1) /* a function's first argument is the pattern */
                wanted = record_regex(s, task, args[0], args[1], NULL, NULL);
        } else if (s->what == GET)
            wanted = record_in(s, task, args[0], b->self);
        else if (is_text(args[0]) || PyTuple_Check(args[0]) || PyLong_Check(args[0]))
            wanted = record_text(s, task, b->self, args, n);
    }
    return wanted < 0 ? NULL : PyObject_Vectorcall(b->method, args, nargsf, names);
}

static PyTypeObject BoundType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Bound",
    .tp_basicsize = sizeof(BoundObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(BoundObject, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = (destructor)bound_free,
};

/* Whether a method is a builtin one that the site is for; `self` is then what it compares. */
static int is_known(const SiteObject *s, PyObject *method, PyObject **self)
{
    if (s->what == REGEX)
        for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(s->extra); i++)
            if (method == PyTuple_GET_ITEM(s->extra, i)) {
                *self = method;
                return 1;
            }
    if (!PyCFunction_Check(method) || !PyCFunction_GET_SELF(method))
        return 0;
    *self = PyCFunction_GET_SELF(method);
    if (s->what == REGEX)
        return Py_IS_TYPE(*self, (PyTypeObject *)PyTuple_GET_ITEM(s->extra, 0));
    if (s->what == GET)
        return PyDict_CheckExact(*self) && !strcmp(((PyCFunctionObject *)method)->m_ml->ml_name, "get");
    return (PyUnicode_CheckExact(*self) || PyBytes_CheckExact(*self) || PyByteArray_CheckExact(*self)) && is_text(*self);
}

/* method(s.startswith): what is called then. */
static PyObject *site_method(SiteObject *s, PyObject *method)
{
    TaskObject *task;
    PyObject *self;
    int wanted = is_wanted(s, &task);
    if (wanted < 0)
        return NULL;
    if (!wanted || !is_known(s, method, &self))
        return Py_NewRef(method);
    BoundObject *b = PyObject_New(BoundObject, &BoundType);
    if (b) {
        b->vectorcall = bound_call;
        b->site = (SiteObject *)Py_NewRef(s);
        b->method = Py_NewRef(method);
        b->self = Py_NewRef(self);
    }
    return (PyObject *)b;
}

/* item(d, k): d[k] */
static PyObject *site_item(SiteObject *s, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "a look-up has 2 operands, not %zd", n);
    if (PyDict_CheckExact(args[0]) && is_looked_up(args[1], args[0])) {
        PyObject *value = PyObject_GetItem(args[0], args[1]);
        return looked_up(s, args[1], args[0], value != NULL, value);
    }
    TaskObject *task;
    int wanted = PyDict_CheckExact(args[0]) ? is_wanted(s, &task) : 0;
    if (wanted < 0 || (wanted && record_in(s, task, args[1], args[0]) < 0))
        return NULL;
    return PyObject_GetItem(args[0], args[1]);
}

#define FASTCALL(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL
static PyMethodDef site_methods[] = {
    {"compare", FASTCALL(site_compare), NULL},
    {"link", FASTCALL(site_link), NULL},
    {"test", FASTCALL(site_test), NULL},
    {"match", (PyCFunction)site_match, METH_O, NULL},
    {"method", (PyCFunction)site_method, METH_O, NULL},
    {"item", FASTCALL(site_item), NULL},
    {"__reduce__", (PyCFunction)site_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyNumberMethods site_number = {.nb_invert = (unaryfunc)site_pop};

static PyTypeObject SiteType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Site",
    .tp_basicsize = sizeof(SiteObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = site_new,
    .tp_dealloc = (destructor)site_free,
    .tp_as_number = &site_number,
    .tp_methods = site_methods,
};
