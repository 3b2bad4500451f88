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
    const uint64_t *pcs;     /* of its places */
    Py_ssize_t count;
    PyObject *extra;         /* match: the patterns; REGEX: the functions and the type that it knows */
    long link;               /* which link of a chain of the file it is */
    uint8_t what, constant;
    uint8_t outcomes;        /* of an order that has a place: bit 0 if it is true of less, 1 of equal, 2 of greater */
} SiteObject;

static PyTypeObject SiteType, BoundType;
static PyObject *range_start, *range_stop, *enum_members, *get_attribute; /* names */

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
        s->pcs = s->places->pcs + first;
        s->count = count;
        s->what = what;
        s->constant = constant;
        s->outcomes = what < IN && count ? outcomes[what] : 0;
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
    return Py_BuildValue("O(OnniilO)", Py_TYPE(s), Py_None, (Py_ssize_t)(s->pcs - s->places->pcs), s->count, s->what, s->constant, s->link, s->extra);
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
    return record_operands(task, s->places->mask, s->pcs[place], constant, &a, &b);
}

/* ------------------------------------------------------------------ a OP b */

/* Nearly all comparisons are of small ints or short texts, nearly all collections the only one, and there is room.
 * Returns whether it could be recorded so; `type` is that of the left operand's words coming first. */
static inline int is_recorded(const SiteObject *s, Py_ssize_t place, int constant, uint64_t type, uint64_t left,
                              uint64_t right)
{
    SinkObject *sink = here.comparing;
    if (!sink || here.version != here.ts->context_ver || here.epoch != state.epoch ||
        !(sink->scope & s->places->mask))
        return 0;
    uint64_t count = __atomic_load_n(sink->words, __ATOMIC_RELAXED);
    if (count - 1 >= sink->capacity - 1) /* 0 as well: the table of operands has to be emptied */
        return 0;
    int swap = constant == CONST_RIGHT;
    uint64_t *words = sink->words + 1 + RECORD_WORDS * count;
    words[0] = type | (uint64_t)(constant != CONST_NONE) << BIT_CONST;
    words[1] = swap ? right : left;
    words[2] = swap ? left : right;
    words[3] = s->pcs[place];
    store(sink->words, count + 1);
    return 1;
}

static inline int is_short(PyObject *text)
{
    return PyUnicode_IS_COMPACT_ASCII(text) && PyUnicode_GET_LENGTH(text) <= 8;
}

/* Of two short texts. */
static inline int are_recorded(const SiteObject *s, Py_ssize_t place, int constant, PyObject *a, PyObject *b)
{
    size_t m = (size_t)PyUnicode_GET_LENGTH(a), n = (size_t)PyUnicode_GET_LENGTH(b);
    int swap = constant == CONST_RIGHT;
    uint64_t type = (uint64_t)STR << BIT_KIND | (uint64_t)STR << (BIT_KIND + 4) |
                    (uint64_t)size_of_length(m > n ? m : n) << BIT_SIZE | (uint64_t)(swap ? n : m) << BIT_LENGTH |
                    (uint64_t)(swap ? m : n) << (BIT_LENGTH + 16);
    return is_recorded(s, place, constant, type, pack((const uint8_t *)((PyASCIIObject *)a + 1), m),
                       pack((const uint8_t *)((PyASCIIObject *)b + 1), n));
}

/* Of two small ints, or two short texts. */
static inline int is_recorded_quickly(const SiteObject *s, Py_ssize_t place, int constant, PyObject *a, PyObject *b)
{
    int64_t x, y;
    if (is_small(a, &x))
        return is_small(b, &y) &&
               is_recorded(s, place, constant, size_of_ints(x, y) << BIT_SIZE, (uint64_t)x, (uint64_t)y);
    return PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b) && is_short(a) && is_short(b) &&
           are_recorded(s, place, constant, a, b);
}

static inline int is_number(PyObject *o) { return PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyBool_Check(o); }

/* Whether its hash and its == are no code of the program's. */
static inline int is_basic(PyObject *o)
{
    return PyUnicode_CheckExact(o) || is_number(o) || PyBytes_CheckExact(o) || o == Py_None;
}

/* Whether one is found where the other is looked for, as far as that can be told without running code. */
static inline int are_same(PyObject *a, PyObject *b)
{
    int64_t x, y;
    if (a == b)
        return 1;
    if (is_small(a, &x) && is_small(b, &y))
        return x == y;
    if (!(is_number(a) ? is_number(b) : Py_IS_TYPE(a, Py_TYPE(b)) && is_basic(a)))
        return 0;
    int same = PyObject_RichCompareBool(a, b, Py_EQ);
    if (same < 0) /* there is no memory */
        PyErr_Clear();
    return same > 0;
}

/* The element of a set, or key of a dictionary and its value, that is the same, borrowed; NULL if it is not among the
 * first ones. */
static PyObject *find_element(PyObject *container, PyObject *wanted, PyObject **value)
{
    PyObject *element;
    Py_ssize_t at = 0;
    Py_hash_t hash;
    for (int n = 0; n < ELEMENTS_LIMIT; n++) {
        if (!(PyDict_CheckExact(container) ? PyDict_Next(container, &at, &element, value)
                                           : _PySet_NextEntry(container, &at, &element, &hash)))
            break;
        if (are_same(element, wanted))
            return element;
    }
    return NULL;
}

static inline int is_hashed(PyObject *container) { return PyAnySet_CheckExact(container) || PyDict_CheckExact(container); }

/* One record for each element, with which the left operand is compared, up to a limit; of a range its ends. What is found
 * in a tuple or list was compared with nothing behind it. */
static int record_elements(const SiteObject *s, TaskObject *task, Py_ssize_t place, int constant, PyObject *left,
                           PyObject *container)
{
    int failed = 0, is_found = 0;
    Py_ssize_t n = 0, at = 0;
    PyObject *element;
    Py_hash_t hash;
    /* Making room may let other threads run. */
#define ELEMENT(object)                                                          \
    do {                                                                         \
        element = object;                                                        \
        if (is_recorded_quickly(s, place, constant, left, element))              \
            break;                                                               \
        Py_INCREF(element);                                                      \
        if (record_objects(s, task, place, constant, left, element) < 0)         \
            failed = -1;                                                         \
        Py_DECREF(element);                                                      \
    } while (0)
    if (PyTuple_CheckExact(container) || PyList_CheckExact(container)) {
        for (; n < PySequence_Fast_GET_SIZE(container) && n < ELEMENTS_LIMIT && !is_found; n++) {
            is_found = are_same(PySequence_Fast_GET_ITEM(container, n), left);
            ELEMENT(PySequence_Fast_GET_ITEM(container, n));
        }
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

/* What was found in a set or dictionary was compared with nothing else; without it, with each element. */
static int record_found(const SiteObject *s, TaskObject *task, Py_ssize_t place, int constant, PyObject *left,
                        PyObject *container, PyObject *found)
{
    if (!found)
        return record_elements(s, task, place, constant, left, container);
    if (is_recorded_quickly(s, place, constant, left, found))
        return 0;
    Py_INCREF(found);
    int failed = record_objects(s, task, place, constant, left, found);
    Py_DECREF(found);
    return failed;
}

static int record_in(const SiteObject *s, TaskObject *task, PyObject *left, PyObject *container)
{
    PyObject *found = is_hashed(container) ? find_element(container, left, NULL) : NULL;
    return record_found(s, task, 0, s->constant, left, container, found);
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

/* Whether a set or dictionary is asked for something basic: then the answer comes first, and says whether it is in. It
 * takes no code of the program's but of an element of another type with the same hash, which must not run twice. */
static inline int is_looked_up(PyObject *wanted, PyObject *container)
{
    return state.comparing && is_hashed(container) && is_basic(wanted);
}

/* Records a look-up by its result; returns that. NULL is with an exception. */
static PyObject *looked_up(const SiteObject *s, PyObject *a, PyObject *b, int is_in, PyObject *result)
{
    PyObject *type, *value, *traceback, *found = NULL;
    TaskObject *task;
    PyErr_Fetch(&type, &value, &traceback);
    int wanted = is_wanted(s, &task);
    if (wanted > 0) {
        if (is_in) /* a number as another one, or as an object of the program's */
            found = is_number(a) ? find_element(b, a, NULL) : a;
        if (is_in && !found && PyObject_Size(b) > ELEMENTS_LIMIT)
            found = a;
        wanted = record_found(s, task, 0, s->constant, a, b, found);
    }
    if (wanted < 0) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        Py_CLEAR(result);
    } else
        PyErr_Restore(type, value, traceback);
    return result;
}

static int record_comparison(const SiteObject *s, PyObject *a, PyObject *b)
{
    TaskObject *task;
    int wanted = is_wanted(s, &task);
    if (wanted <= 0)
        return wanted;
    if (s->what == IN || s->what == NOT_IN)
        return record_in(s, task, a, b);
    return record_objects(s, task, 0, s->constant, a, b);
}

static __attribute__((noinline)) PyObject *compare_slowly(const SiteObject *s, PyObject *const *args, Py_ssize_t n)
{
    if (n != 2)
        return PyErr_Format(PyExc_TypeError, "a comparison has 2 operands, not %zd", n);
    if ((s->what == IN || s->what == NOT_IN) && is_looked_up(args[0], args[1])) {
        PyObject *result = plain(s->what, args[0], args[1]);
        return looked_up(s, args[0], args[1], result == (s->what == IN ? Py_True : Py_False), result);
    }
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
        if (state.comparing && !is_recorded(s, 0, s->constant, size_of_ints(x, y) << BIT_SIZE, (uint64_t)x, (uint64_t)y))
            return compare_slowly(s, args, n);
        return Py_NewRef(s->outcomes & (x < y ? 1 : x == y ? 2 : 4) ? Py_True : Py_False);
    }
    if (PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b) &&
        (!state.comparing || (is_short(a) && is_short(b) && are_recorded(s, 0, s->constant, a, b))))
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
