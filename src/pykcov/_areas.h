/* What sections do with the words of areas: begin one, and move what it has into its device's. */
#include <sys/syscall.h>
#include <unistd.h>

/* Words of an area's header, and of a section record; area.py has them all. */
enum { HEAD_LOST = 3, HEAD_RECORDED = 5, HEAD_PID = 6, HEAD_DEVICE = 8, HEAD_HANDLE = 9, HEAD_MOVED = 10,
       HEAD_TOLD = 12, HEAD_MOVING = 13, HEAD_MOVED_THEN = 14, HEAD_TID = 15, HEAD_TASK = 16, HEAD_BEGAN = 17,
       HEAD_THREAD = 18, HEAD_AFTER = 26, HEAD_OPEN = 27, HEAD_WORDS = 30 };
enum { SECTION_HANDLE, SECTION_PID, SECTION_TID, SECTION_TASK, SECTION_START, SECTION_END, SECTION_BEGAN,
       SECTION_ENDED, SECTION_THREAD, SECTION_WORDS = SECTION_THREAD + 8 };
enum { THREAD_NAME = 64 }; /* bytes, the last one 0 */

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ------------------------------------------------------------------ Area: what area.py has mapped */

typedef struct {
    PyObject_HEAD
    Py_buffer words, head, records, operands; /* of the size that they must have, from bind() on */
    PyObject *sink; /* the Sink that records into it, if one does */
    Py_ssize_t mapped_words;
} AreaObject;

static void area_release(AreaObject *a)
{
    PyBuffer_Release(&a->words);
    PyBuffer_Release(&a->head);
    PyBuffer_Release(&a->records);
    PyBuffer_Release(&a->operands);
}

/* bind(words, head, records, operands) */
static PyObject *area_bind(AreaObject *a, PyObject *args)
{
    AreaObject new = {0};
    if (!PyArg_ParseTuple(args, "w*w*w*w*:bind", &new.words, &new.head, &new.records, &new.operands))
        return NULL;
    if (new.words.len < 8 || new.head.len < HEAD_WORDS * 8 || (new.operands.len && new.operands.len < OPERANDS_HEAD)) {
        area_release(&new);
        return PyErr_Format(PyExc_ValueError, "an area is too small");
    }
    area_release(a);
    a->words = new.words;
    a->head = new.head;
    a->records = new.records;
    a->operands = new.operands;
    Py_RETURN_NONE;
}

static void area_free(AreaObject *a)
{
    area_release(a);
    Py_CLEAR(a->sink);
    Py_TYPE(a)->tp_free((PyObject *)a);
}

static inline uint64_t *head_of(const AreaObject *a) { return a->head.buf; }
static inline uint64_t *count_of_area(const AreaObject *a) { return a->words.buf; }

/* How many section records there is room for. */
static inline uint64_t record_room(const AreaObject *a) { return (uint64_t)a->records.len / 8 / SECTION_WORDS; }

/* Where the next section record goes, NULL if there is no room. */
static uint64_t *next_section(const AreaObject *to)
{
    const uint64_t number = load(&head_of(to)[HEAD_RECORDED]);
    return number < record_room(to) ? (uint64_t *)to->records.buf + number * SECTION_WORDS : NULL;
}

/* Writes the section record of what is about to be moved. It counts when it is closed. Before the move: who is killed in
 * the middle leaves no words that are nobody's. */
static void open_section(const AreaObject *to, const uint64_t *about, uint64_t start)
{
    uint64_t *head = head_of(to), *section = next_section(to);
    if (!section)
        return;
    section[SECTION_HANDLE] = about[HEAD_HANDLE];
    section[SECTION_PID] = about[HEAD_PID];
    section[SECTION_TID] = about[HEAD_TID];
    section[SECTION_TASK] = about[HEAD_TASK];
    section[SECTION_START] = start;
    section[SECTION_BEGAN] = about[HEAD_BEGAN];
    memcpy(&section[SECTION_THREAD], &about[HEAD_THREAD], THREAD_NAME);
    store(&head[HEAD_OPEN], load(&head[HEAD_RECORDED]) + 1);
}

/* Lets the section record count that was opened last, if words have come since; also for one who was killed. */
static void close_section(const AreaObject *to)
{
    uint64_t *head = head_of(to), *section = next_section(to);
    const uint64_t number = load(&head[HEAD_RECORDED]), count = load(count_of_area(to));
    if (!section || load(&head[HEAD_OPEN]) != number + 1)
        return;
    if (section[SECTION_START] < count && count <= (uint64_t)to->words.len / 8) {
        section[SECTION_END] = count;
        section[SECTION_ENDED] = now();
        store(&head[HEAD_RECORDED], number + 1);
    }
    store(&head[HEAD_OPEN], 0);
}

static PyObject *area_close_section(AreaObject *a, PyObject *Py_UNUSED(arg))
{
    close_section(a);
    Py_RETURN_NONE;
}

/* Moves what fits of `from` that is not in `to` yet, comparisons where `comparing`, and returns how many records are left. No
 * section record of `to` may be open.
 *
 * Who is killed in here leaves HEAD_MOVING, and the next one who moves from that area finds out how far it got:
 * the count of `to` is as it was before, or it is not. */
static uint64_t move(const AreaObject *to, const AreaObject *from, uint64_t key, int comparing)
{
    const uint64_t words = comparing ? RECORD_WORDS : 1;
    uint64_t *count = count_of_area(to), *about = head_of(from);
    const uint64_t *src = from->words.buf;
    const uint64_t has = load(src); /* before: an empty section ends without the lock, and the next one may be another's */
    if (load(&about[HEAD_DEVICE]) != key)
        return 0;
    const uint64_t capacity = ((uint64_t)to->words.len / 8 - 1) / words, used = load(count);
    const uint64_t room = ((uint64_t)from->words.len / 8 - 1) / words, moving = load(&about[HEAD_MOVING]);
    if (moving) {
        if (used != moving - 1)
            store(&about[HEAD_MOVED], about[HEAD_MOVED_THEN]);
        store(&about[HEAD_MOVING], 0);
    }
    const uint64_t start = load(&about[HEAD_MOVED]);
    const uint64_t have = has < room ? has : room; /* a damaged count */
    const uint64_t pending = have > start ? have - start : 0, space = used < capacity ? capacity - used : 0;
    uint64_t moved = pending < space ? pending : space;
    uint64_t *dst = count + 1 + used * words;
    src += 1 + start * words;
    if (moved)
        open_section(to, about, used);
    if (moved && comparing)
        moved = move_records(dst, src, moved, used, to->operands.buf, (uint64_t)(to->operands.len - OPERANDS_HEAD),
                             from->operands.buf, (uint64_t)(from->operands.len - OPERANDS_HEAD));
    else
        memcpy(dst, src, moved * 8);
    if (moved) {
        store(&about[HEAD_MOVED_THEN], start + moved);
        store(&about[HEAD_MOVING], used + 1);
        store(count, used + moved);
        store(&about[HEAD_MOVED], start + moved);
        store(&about[HEAD_MOVING], 0);
    }
    close_section(to);
    return pending - moved;
}

/* Counts as dropped what an area has lost and not told yet, and `left` of its records. Not in Python: a kill between these
 * stores would count an event twice, or never. */
static void tell(uint64_t *dropped, uint64_t *about, uint64_t left)
{
    const uint64_t lost = load(&about[HEAD_LOST]), told = load(&about[HEAD_TOLD]), moved = load(&about[HEAD_MOVED]);
    if (left || lost != told) {
        __atomic_fetch_add(dropped, lost - told + left, __ATOMIC_RELAXED);
        store(&about[HEAD_MOVED], moved + left);
        store(&about[HEAD_TOLD], lost);
    }
}

static PyMethodDef area_methods[] = {
    {"bind", (PyCFunction)area_bind, METH_VARARGS, NULL},
    {"close_section", (PyCFunction)area_close_section, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef area_members[] = {
    {"sink", T_OBJECT_EX, offsetof(AreaObject, sink), 0, "the Sink that records into it"},
    {"mapped_words", T_PYSSIZET, offsetof(AreaObject, mapped_words), 0, "for records and operands"},
    {NULL},
};

static PyTypeObject AreaType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Area",
    .tp_basicsize = sizeof(AreaObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)area_free,
    .tp_methods = area_methods,
    .tp_members = area_members,
};

/* add(words, value): atomically, for counters that several processes write without a lock. */
static PyObject *add(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer words;
    unsigned long long value;
    if (!PyArg_ParseTuple(args, "w*K", &words, &value))
        return NULL;
    if (words.len >= 8)
        __atomic_fetch_add((uint64_t *)words.buf, value, __ATOMIC_RELAXED);
    PyBuffer_Release(&words);
    Py_RETURN_NONE;
}
