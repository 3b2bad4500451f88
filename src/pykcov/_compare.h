/* The sites of comparisons: constants of the code that are called in the place of what they record (probes/compare.py
 * puts them there), do the plain thing, and give its result or its exception.
 *
 * A site records first and compares then: what the comparison calls may raise, compare itself, or change its operands.
 */

typedef enum { IN = Py_GE + 1, NOT_IN, IS, IS_NOT, PREFIX, SUFFIX, SEARCH, GET, REGEX } what_t;
enum { ELEMENTS_LIMIT = 64 }; /* records of one `in` */

typedef struct {
    PyObject_HEAD
    PlacesObject *places;
    Py_ssize_t first, count; /* of the places' PCs */
    PyObject *extra;         /* match: the patterns; REGEX: the functions and the type that it knows */
    long link;               /* which link of a chain of the file it is */
    uint8_t what, constant;
    uint8_t outcomes;        /* of an order: bit 0 if it is true of less, 1 of equal, 2 of greater */
} SiteObject;

static PyTypeObject SiteType, BoundType;
static PyObject *range_start, *range_stop, *enum_members; /* names */

PyAPI_FUNC(int) _PySet_NextEntry(PyObject *, Py_ssize_t *, PyObject **, Py_hash_t *);

static PyObject *site_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    static const uint8_t outcomes[] = {[Py_LT] = 1, [Py_LE] = 3, [Py_EQ] = 2, [Py_NE] = 5, [Py_GT] = 4, [Py_GE] = 6};
    PyObject *places, *extra = Py_None;
    Py_ssize_t first, count;
    unsigned char what, constant;
    long link = 0;
    if (!PyArg_ParseTuple(args, "Onnbb|lO:Site", &places, &first, &count, &what, &constant, &link, &extra))
        return NULL;
    places = places == Py_None ? PyObject_CallFunction((PyObject *)&PlacesType, "n", first + count) : Py_NewRef(places);
    if (!places)
        return NULL;
    if (!Py_IS_TYPE(places, &PlacesType) || first < 0 || count < 0 || first + count > ((PlacesObject *)places)->n ||
        what > REGEX || constant > CONST_RIGHT) {
        Py_DECREF(places);
        return PyErr_Format(PyExc_ValueError, "no such site");
    }
    SiteObject *s = (SiteObject *)type->tp_alloc(type, 0);
    if (!s)
        Py_DECREF(places);
    else {
        s->places = (PlacesObject *)places;
        s->first = first;
        s->count = count;
        s->what = what;
        s->constant = constant;
        s->outcomes = what < IN ? outcomes[what] : 0;
        s->link = link;
        s->extra = Py_NewRef(extra);
    }
    return (PyObject *)s;
}

static void site_free(SiteObject *s)
{
    Py_DECREF(s->places);
    Py_DECREF(s->extra);
    Py_TYPE(s)->tp_free((PyObject *)s);
}

/* A copy elsewhere, of pickled code, does what is plain. */
static PyObject *site_reduce(SiteObject *s, PyObject *Py_UNUSED(arg))
{
    return Py_BuildValue("O(OnniilO)", Py_TYPE(s), Py_None, s->first, s->count, s->what, s->constant, s->link, s->extra);
}

/* Whether the current task wants what happens here: 1, 0, or -1 with an exception. */
static inline int is_wanted(const SiteObject *s, TaskObject **task)
{
    if (!state.comparing || here.quiet || !s->places->mask)
        return 0;
    if (current(task) < 0)
        return -1;
    return *task && (*task)->ncomparing && s->count;
}

static int record_objects(const SiteObject *s, TaskObject *task, Py_ssize_t place, int constant, PyObject *left,
                          PyObject *right)
{
    operand_t a, b;
    take(&a, left);
    take(&b, right);
    return record_operands(task, s->places->mask, s->places->pcs[s->first + place], constant, &a, &b);
}

/* ------------------------------------------------------------------ a OP b */

/* One record for each element, with which the left operand is compared, up to a limit; of a range its ends. */
static int record_in(const SiteObject *s, TaskObject *task, Py_ssize_t place, int constant, PyObject *left,
                     PyObject *container)
{
    int failed = 0;
    Py_ssize_t n = 0, at = 0;
    PyObject *element;
    Py_hash_t hash;
    /* Making room may let other threads run. */
#define ELEMENT(object)                                                          \
    do {                                                                         \
        element = Py_NewRef(object);                                             \
        if (record_objects(s, task, place, constant, left, element) < 0)         \
            failed = -1;                                                         \
        Py_DECREF(element);                                                      \
    } while (0)
    if (PyTuple_CheckExact(container) || PyList_CheckExact(container)) {
        for (; n < PySequence_Fast_GET_SIZE(container) && n < ELEMENTS_LIMIT; n++)
            ELEMENT(PySequence_Fast_GET_ITEM(container, n));
    } else if (PyAnySet_CheckExact(container)) {
        for (; n < ELEMENTS_LIMIT && _PySet_NextEntry(container, &at, &element, &hash); n++)
            ELEMENT(element);
    } else if (PyDict_CheckExact(container)) {
        for (; n < ELEMENTS_LIMIT && PyDict_Next(container, &at, &element, NULL); n++)
            ELEMENT(element);
    } else if (Py_IS_TYPE(container, &PyRange_Type)) {
        for (; n < 2; n++) {
            PyObject *end = PyObject_GetAttr(container, n ? range_stop : range_start); /* a member of a struct */
            if (!end)
                return -1;
            ELEMENT(end);
            Py_DECREF(end);
        }
    } else
        return record_objects(s, task, place, constant, left, container);
#undef ELEMENT
    return failed;
}

static PyObject *plain(what_t what, PyObject *a, PyObject *b)
{
    int truth;
    if (what < IN)
        return PyObject_RichCompare(a, b, (int)what);
    if (what >= IS)
        truth = (a == b) == (what == IS);
    else if ((truth = PySequence_Contains(b, a)) < 0)
        return NULL;
    else
        truth = truth == (what == IN);
    return Py_NewRef(truth ? Py_True : Py_False);
}

static int record_comparison(const SiteObject *s, PyObject *a, PyObject *b)
{
    TaskObject *task;
    int wanted = is_wanted(s, &task);
    if (wanted <= 0)
        return wanted;
    if (s->what == IN || s->what == NOT_IN)
        return record_in(s, task, 0, s->constant, a, b);
    return record_objects(s, task, 0, s->constant, a, b);
}

/* Nearly all comparisons are of small ints or short texts, nearly all collections the only one, and there is room.
 * Returns whether it could be recorded so; `type` is that of the left operand's words coming first. */
static inline int is_recorded(const SiteObject *s, uint64_t type, uint64_t left, uint64_t right)
{
    SinkObject *sink = here.comparing;
    const PlacesObject *places = s->places;
    if (!sink || here.version != here.ts->context_ver || here.epoch != state.epoch || here.quiet ||
        !(sink->scope & places->mask) || !s->count)
        return 0;
    uint64_t count = __atomic_load_n(sink->words, __ATOMIC_RELAXED);
    if (count - 1 >= sink->capacity - 1) /* 0 as well: the table of operands has to be emptied */
        return 0;
    int swap = s->constant == CONST_RIGHT;
    uint64_t *words = sink->words + 1 + RECORD_WORDS * count;
    words[0] = type | (uint64_t)(s->constant != CONST_NONE) << BIT_CONST;
    words[1] = swap ? right : left;
    words[2] = swap ? left : right;
    words[3] = places->pcs[s->first];
    store(sink->words, count + 1);
    return 1;
}

static inline int is_short(PyObject *text)
{
    return PyUnicode_IS_COMPACT_ASCII(text) && PyUnicode_GET_LENGTH(text) <= 8;
}

/* Of two short texts. */
static inline int are_recorded(const SiteObject *s, PyObject *a, PyObject *b)
{
    size_t m = (size_t)PyUnicode_GET_LENGTH(a), n = (size_t)PyUnicode_GET_LENGTH(b);
    int swap = s->constant == CONST_RIGHT;
    uint64_t type = (uint64_t)STR << BIT_KIND | (uint64_t)STR << (BIT_KIND + 4) |
                    (uint64_t)size_of_length(m > n ? m : n) << BIT_SIZE | (uint64_t)(swap ? n : m) << BIT_LENGTH |
                    (uint64_t)(swap ? m : n) << (BIT_LENGTH + 16);
    return is_recorded(s, type, pack((const uint8_t *)((PyASCIIObject *)a + 1), m),
                       pack((const uint8_t *)((PyASCIIObject *)b + 1), n));
}

static __attribute__((noinline)) PyObject *compare_slowly(const SiteObject *s, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "a comparison has 2 operands, not %zd", n);
    if (state.comparing && record_comparison(s, args[0], args[1]) < 0)
        return NULL;
    return plain(s->what, args[0], args[1]);
}

static PyObject *site_compare(SiteObject *s, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2 || !s->outcomes)
        return compare_slowly(s, args, n);
    PyObject *a = args[0], *b = args[1];
    int64_t x, y;
    if (is_small(a, &x) && is_small(b, &y)) {
        if (state.comparing && !is_recorded(s, size_of_ints(x, y) << BIT_SIZE, (uint64_t)x, (uint64_t)y))
            return compare_slowly(s, args, n);
        return Py_NewRef(s->outcomes & (x < y ? 1 : x == y ? 2 : 4) ? Py_True : Py_False);
    }
    if (PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b) &&
        (!state.comparing || (is_short(a) && is_short(b) && are_recorded(s, a, b))))
        return PyUnicode_RichCompare(a, b, s->what);
    return compare_slowly(s, args, n);
}

/* ------------------------------------------------------------------ a OP b OP c */

/* A link of a chain evaluates the truth of `a OP b`, once, as the interpreter does, and returns it. What the chain goes
 * on with, b or the result that is false, waits here for the very next instructions, `~site`. Other code runs in between only in
 * a signal handler or a debugger; if that raises, what waits is dropped by the next who looks for his. */
typedef struct {
    PyThreadState *thread; /* compared, never looked into */
    const PlacesObject *places;
    long link;
    PyObject *value;
} waiting_t;

static struct {
    Py_ssize_t n, room;
    waiting_t *at;
} waiting;

static int push(const SiteObject *s, PyObject *value)
{
    if (waiting.n == waiting.room) {
        Py_ssize_t room = waiting.room ? 2 * waiting.room : 16;
        waiting_t *at = PyMem_Resize(waiting.at, waiting_t, room);
        if (!at) {
            PyErr_NoMemory();
            return -1;
        }
        waiting.at = at;
        waiting.room = room;
    }
    waiting.at[waiting.n++] = (waiting_t){THIS_THREAD(), s->places, s->link, Py_NewRef(value)};
    return 0;
}

static PyObject *site_pop(SiteObject *s)
{
    PyThreadState *thread = THIS_THREAD();
    for (Py_ssize_t i = waiting.n - 1; i >= 0; i--) {
        waiting_t found = waiting.at[i];
        if (found.thread != thread)
            continue;
        waiting.n--;
        memmove(&waiting.at[i], &waiting.at[i + 1], (size_t)(waiting.n - i) * sizeof found);
        if (found.places == s->places && found.link == s->link)
            return found.value;
        Py_DECREF(found.value); /* it may run code */
        i = waiting.n;
    }
    return PyErr_Format(PyExc_RuntimeError, "execution has jumped into the middle of a comparison");
}

static PyObject *chain_link(SiteObject *s, PyObject *const *args, Py_ssize_t n, int is_tested)
{
    PyObject *result = site_compare(s, args, n);
    if (!result)
        return NULL;
    int truth = PyObject_IsTrue(result), failed = truth < 0;
    if (truth > 0)
        failed = push(s, args[1]) < 0;
    else if (truth == 0 && !is_tested)
        failed = push(s, result) < 0;
    Py_DECREF(result);
    return failed ? NULL : Py_NewRef(truth ? Py_True : Py_False);
}

/* Of a chain whose value is used. */
static PyObject *site_link(SiteObject *s, PyObject *const *args, Py_ssize_t n) { return chain_link(s, args, n, 0); }

/* Of a chain of which only the truth matters: nobody asks for a result that is false. */
static PyObject *site_test(SiteObject *s, PyObject *const *args, Py_ssize_t n) { return chain_link(s, args, n, 1); }

/* ------------------------------------------------------------------ match */

/* A pattern is a tuple: what it is, then (VALUE, place, constant), (NAME, place, names), (ALL, patterns),
 * (SEQUENCE, patterns before the star, has a star, patterns behind), (MAPPING, ((place, key), ...), patterns). */
enum { VALUE, NAME, ALL, SEQUENCE, MAPPING };

/* Returns what a dotted name is, if that can be found without running code (borrowed); else NULL. */
static PyObject *find_name(PyObject *names)
{
    PyObject *globals = PyEval_GetGlobals();
    PyObject *found = globals ? PyDict_GetItem(globals, PyTuple_GET_ITEM(names, 0)) : NULL;
    for (Py_ssize_t i = 1; found && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyModule_CheckExact(found))
            found = PyDict_GetItem(PyModule_GetDict(found), name);
        else if (PyType_Check(found)) {
            PyObject *members = _PyType_Lookup((PyTypeObject *)found, enum_members);
            PyObject *member = members && PyDict_CheckExact(members) ? PyDict_GetItem(members, name) : NULL;
            found = member ? member : _PyType_Lookup((PyTypeObject *)found, name);
        } else
            found = NULL;
    }
    return found;
}

static int walk(const SiteObject *s, TaskObject *task, PyObject *pattern, PyObject *subject);

static int walk_all(const SiteObject *s, TaskObject *task, PyObject *patterns, PyObject *sequence, Py_ssize_t start)
{
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(patterns); i++) {
        Py_ssize_t at = start + i;
        if (at >= PySequence_Fast_GET_SIZE(sequence)) /* another thread has made a list shorter */
            break;
        PyObject *element = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, at));
        if (walk(s, task, PyTuple_GET_ITEM(patterns, i), element) < 0)
            failed = -1;
        Py_DECREF(element);
    }
    return failed;
}

/* Finds a value by a key that is equal without running code: the same object, or the same text. */
static PyObject *find_key(PyObject *dict, PyObject *key)
{
    PyObject *other, *value;
    Py_ssize_t at = 0;
    int64_t x, y;
    for (Py_ssize_t n = 0; n < ELEMENTS_LIMIT && PyDict_Next(dict, &at, &other, &value); n++)
        if (other == key ||
            (PyUnicode_CheckExact(other) && PyUnicode_CheckExact(key) && PyUnicode_Compare(other, key) == 0) ||
            (is_small(other, &x) && is_small(key, &y) && x == y))
            return value;
    return NULL;
}

static int walk_mapping(const SiteObject *s, TaskObject *task, PyObject *keys, PyObject *patterns, PyObject *subject)
{
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *entry = PyTuple_GET_ITEM(keys, i), *key = PyTuple_GET_ITEM(entry, 1);
        Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GET_ITEM(entry, 0));
        if (record_in(s, task, place, CONST_LEFT, key, subject) < 0)
            failed = -1;
        PyObject *value = find_key(subject, key);
        if (!value)
            continue;
        Py_INCREF(value);
        if (walk(s, task, PyTuple_GET_ITEM(patterns, i), value) < 0)
            failed = -1;
        Py_DECREF(value);
    }
    return failed;
}

static int walk(const SiteObject *s, TaskObject *task, PyObject *pattern, PyObject *subject)
{
    PyObject *one = PyTuple_GET_ITEM(pattern, 1), *two = PyTuple_GET_ITEM(pattern, PyTuple_GET_SIZE(pattern) - 1);
    PyObject *value;
    int failed = 0;
    switch (PyLong_AsLong(PyTuple_GET_ITEM(pattern, 0))) {
    case VALUE:
        return record_objects(s, task, PyLong_AsSsize_t(one), CONST_RIGHT, subject, two);
    case NAME:
        value = find_name(two);
        return value ? record_objects(s, task, PyLong_AsSsize_t(one), CONST_NONE, subject, value) : 0;
    case ALL:
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(one); i++)
            if (walk(s, task, PyTuple_GET_ITEM(one, i), subject) < 0)
                failed = -1;
        return failed;
    case SEQUENCE:
        if (PyTuple_CheckExact(subject) || PyList_CheckExact(subject)) {
            Py_ssize_t n = PySequence_Fast_GET_SIZE(subject), before = PyTuple_GET_SIZE(one);
            Py_ssize_t behind = PyTuple_GET_SIZE(two);
            if (n < before + behind || (n > before + behind && PyTuple_GET_ITEM(pattern, 2) != Py_True))
                return 0; /* nothing is compared */
            failed = walk_all(s, task, one, subject, 0);
            if (walk_all(s, task, two, subject, n - behind) < 0)
                failed = -1;
        }
        return failed;
    default:
        return PyDict_CheckExact(subject) ? walk_mapping(s, task, one, two, subject) : 0;
    }
}

static PyObject *site_match(SiteObject *s, PyObject *subject)
{
    TaskObject *task;
    int wanted = is_wanted(s, &task);
    if (wanted < 0 || (wanted && walk(s, task, s->extra, subject) < 0))
        return NULL;
    return Py_NewRef(subject);
}

/* ------------------------------------------------------------------ methods that compare, and look-ups */

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

/* Where in a text an argument of a method says that a part of it begins or ends. */
static Py_ssize_t place_in(PyObject *argument, Py_ssize_t length, Py_ssize_t otherwise)
{
    int64_t at;
    if (!argument || !is_small(argument, &at))
        return otherwise;
    if (at < 0)
        at = at + length > 0 ? at + length : 0;
    return at < length ? (Py_ssize_t)at : length;
}

/* What a str, bytes or bytearray is asked for: the part of it where that is looked for. */
static int record_text(const SiteObject *s, TaskObject *task, PyObject *text, PyObject *const *args, Py_ssize_t n)
{
    int failed = 0, has_range = s->extra == Py_True; /* else what follows is a number of splits */
    Py_ssize_t length = length_of(text), m = PyTuple_Check(args[0]) ? 0 : -1;
    Py_ssize_t start = place_in(has_range && n > 1 ? args[1] : NULL, length, 0);
    Py_ssize_t end = place_in(has_range && n > 2 ? args[2] : NULL, length, length);
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
        if (record_operands(task, s->places->mask, s->places->pcs[s->first], s->constant, &a, &b) < 0)
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

static int record_regex(const SiteObject *s, TaskObject *task, PyObject *pattern, PyObject *subject)
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
        take(&a, subject);
        take_bytes(&b, PyUnicode_Check(pattern) ? STR : BYTES, b.copy, n, 0);
        if (n)
            failed = record_operands(task, s->places->mask, s->places->pcs[s->first], s->constant, &a, &b);
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
    int wanted = is_wanted(s, &task);
    if (wanted > 0 && n) {
        if (s->what == REGEX) {
            int has_pattern = b->self == b->method; /* a function's first argument */
            if (n > has_pattern)
                wanted = record_regex(s, task, has_pattern ? args[0] : b->self, args[has_pattern]);
        } else if (s->what == GET)
            wanted = record_in(s, task, 0, s->constant, args[0], b->self);
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
        return PyDict_CheckExact(*self);
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
    TaskObject *task;
    int wanted = PyDict_CheckExact(args[0]) ? is_wanted(s, &task) : 0;
    if (wanted < 0 || (wanted && record_in(s, task, 0, s->constant, args[1], args[0]) < 0))
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
