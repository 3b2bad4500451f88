/* Compiled probes: a constant of the code whose `~` records (probes/insertion.py puts it there), and what lets them
 * sleep while nobody collects.
 *
 * A site is where a probe is used: LOAD_CONST probe; UNARY_INVERT; ... On 3.11 it is LOAD_CONST probe; FOR_ITER where
 * nobody looks at the value. Asleep its first instruction is a JUMP_FORWARD over what it does, or where its value stays
 * on the stack, UNARY_INVERT is a NOP. One code unit changes, so a frame that runs or is suspended anywhere goes on
 * rightly. Copies of a code object, marshalled ones too, are made of its co_code, which is asleep for ever: they are code
 * without probes, and event probes see to it.
 */
#include <opcode.h>

#include "_codeunits.h"

/* ------------------------------------------------------------------ Places: the PCs of a file, when somebody has asked */

typedef struct {
    PyObject_HEAD
    uint64_t mask; /* the scopes that the file is in; 0 also while its PCs are not known */
    uint64_t *pcs;
    Py_ssize_t n;
} PlacesObject;

static PyTypeObject PlacesType;

static PyObject *places_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "n:Places", &n))
        return NULL;
    PlacesObject *p = (PlacesObject *)type->tp_alloc(type, 0);
    if (p && (n < 0 || !(p->pcs = PyMem_Calloc((size_t)n + 1, sizeof(uint64_t))))) {
        Py_DECREF(p);
        return PyErr_NoMemory();
    }
    if (p)
        p->n = n;
    return (PyObject *)p;
}

static void places_free(PlacesObject *p)
{
    PyMem_Free(p->pcs);
    Py_TYPE(p)->tp_free((PyObject *)p);
}

/* fill(pcs, mask): pcs are all of them, or none to leave them as they are. */
static PyObject *places_fill(PlacesObject *p, PyObject *args)
{
    Py_buffer pcs;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "y*K", &pcs, &mask))
        return NULL;
    if (pcs.len && pcs.len / 8 != p->n) {
        PyErr_Format(PyExc_ValueError, "%zd PCs for %zd places", pcs.len / 8, p->n);
    } else {
        memcpy(p->pcs, pcs.buf, (size_t)pcs.len);
        p->mask = mask;
    }
    PyBuffer_Release(&pcs);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
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
    .tp_new = places_new,
    .tp_dealloc = (destructor)places_free,
    .tp_methods = places_methods,
    .tp_members = places_members,
};

/* ------------------------------------------------------------------ Probe */

/* Most probes have one place and no flag, and those at the beginning of functions two: there are many, and small ones stay in
 * the cache. */
typedef struct {
    PyObject_HEAD
    PlacesObject *places;
    const uint64_t *pcs; /* of its places */
} ProbeObject;

typedef struct {
    ProbeObject probe;
    Py_ssize_t count;
    int flags;
} LongProbeObject;

/* With its last PC a loop begins; with its first one goes on, and that is not recorded where it has just begun. */
enum { BEGINS = 1, GOES_ON = 2 };

static PyTypeObject ProbeType, SingleType, DoubleType;

static inline Py_ssize_t count_of(const ProbeObject *p)
{
    return Py_TYPE(p) == &SingleType ? 1 : Py_TYPE(p) == &DoubleType ? 2 : ((const LongProbeObject *)p)->count;
}

static inline int flags_of(const ProbeObject *p)
{
    return Py_TYPE(p) == &ProbeType ? ((const LongProbeObject *)p)->flags : 0;
}

static PyObject *make_probe(PlacesObject *places, Py_ssize_t first, Py_ssize_t count, int flags)
{
    if (first < 0 || count < 1 || first > places->n - count)
        return PyErr_Format(PyExc_ValueError, "places from %zd, %zd of them", first, count);
    PyTypeObject *type = &ProbeType;
    if (count <= 2 && !flags)
        type = count == 1 ? &SingleType : &DoubleType;
    ProbeObject *p = (ProbeObject *)type->tp_alloc(type, 0);
    if (p) {
        p->places = (PlacesObject *)Py_NewRef((PyObject *)places);
        p->pcs = places->pcs + first;
        if (type == &ProbeType) {
            ((LongProbeObject *)p)->count = count;
            ((LongProbeObject *)p)->flags = flags;
        }
    }
    return (PyObject *)p;
}

static PyObject *probe_new(PyTypeObject *Py_UNUSED(type), PyObject *args, PyObject *Py_UNUSED(kw))
{
    PyObject *places;
    Py_ssize_t first, count;
    int flags = 0;
    if (!PyArg_ParseTuple(args, "O!nn|i:Probe", &PlacesType, &places, &first, &count, &flags))
        return NULL;
    return make_probe((PlacesObject *)places, first, count, flags);
}

/* make_probes(places, probes, kind) -> [Probe or None] for those of `probes` that are (kind, first, count, flags): in C
 * because a program has many. */
static PyObject *make_probes(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *places, *probes, *kind;
    if (!PyArg_ParseTuple(args, "O!O!U", &PlacesType, &places, &PyTuple_Type, &probes, &kind))
        return NULL;
    PyObject *made = PyList_New(PyTuple_GET_SIZE(probes));
    for (Py_ssize_t i = 0; made && i < PyTuple_GET_SIZE(probes); i++) {
        PyObject *of = PyTuple_GET_ITEM(probes, i), *its, *probe = NULL;
        Py_ssize_t first, count;
        int flags;
        if (!PyTuple_Check(of) || PyTuple_GET_SIZE(of) != 4 || !PyUnicode_Check(PyTuple_GET_ITEM(of, 0)) ||
            PyUnicode_Compare(PyTuple_GET_ITEM(of, 0), kind) != 0)
            probe = Py_NewRef(Py_None);
        else if (PyArg_ParseTuple(of, "Onni", &its, &first, &count, &flags))
            probe = make_probe((PlacesObject *)places, first, count, flags);
        if (probe)
            PyList_SET_ITEM(made, i, probe);
        else
            Py_CLEAR(made);
    }
    return made;
}

static void probe_free(ProbeObject *p)
{
    Py_DECREF(p->places);
    Py_TYPE(p)->tp_free((PyObject *)p);
}

/* Returns where the loop is that has begun in the current frame, -1 if there is none. */
static int find_begun(const SinkObject *sink)
{
    const void *frame = CURRENT_FRAME(here.ts);
    int i = sink->nbegun - 1;
    while (i >= 0 && sink->begun[i].frame != frame)
        i--;
    return i;
}

/* Not in the probes themselves: a loop begins once. */
static __attribute__((noinline)) void begin_loop(SinkObject *sink, uint64_t pc)
{
    int i = find_begun(sink);
    if (i < 0)
        i = sink->nbegun;
    if (i == BEGUN_ROOM)
        memmove(sink->begun, sink->begun + 1, --i * sizeof(begun_t));
    sink->begun[i] = (begun_t){CURRENT_FRAME(here.ts), pc};
    sink->nbegun = i + 1;
}

/* Tells whether the loop whose line that is has just begun; not twice. */
static inline int has_begun(SinkObject *sink, uint64_t pc)
{
    const int i = sink->nbegun ? find_begun(sink) : -1;
    if (i < 0)
        return 0;
    sink->nbegun = i;
    return sink->begun[i].pc == pc;
}

/* Not the usual case: the task is not known, collects in several areas, or its area is full. */
static __attribute__((noinline, cold)) int fire_slowly(ProbeObject *p)
{
    TaskObject *task;
    if (here.quiet)
        return 0;
    if (current(&task) < 0)
        return -1;
    if (!task || !task->nsinks)
        return state.sinks == 0 ? nobody() : 0;
    const uint64_t *pcs = p->pcs;
    const Py_ssize_t count = count_of(p);
    const int flags = flags_of(p);
    int failed = 0;
    for (Py_ssize_t i = 0; i < task->nsinks; i++) {
        SinkObject *sink = task->sinks[i];
        if (!(sink->scope & p->places->mask))
            continue;
        Py_INCREF(sink); /* what makes room may detach it */
        const uint64_t detached = sink->detached;
        Py_ssize_t j = flags & GOES_ON && has_begun(sink, pcs[0]);
        for (; j < count && sink->detached == detached; j++)
            if (append(sink, pcs[j]) < 0)
                failed = -1;
        if (flags & BEGINS && sink->detached == detached)
            begin_loop(sink, pcs[count - 1]);
        Py_DECREF(sink);
    }
    return failed;
}

/* The usual case: a task collects in one area, or in none while another one does. */
static inline SinkObject *usual_sink(void)
{
    SinkObject *sink = here.collecting;
    return sink && here.version == here.ts->context_ver && here.epoch == state.epoch ? sink : NULL;
}

static inline int fire_long(LongProbeObject *l)
{
    ProbeObject *p = &l->probe;
    SinkObject *sink = usual_sink();
    if (!sink)
        return fire_slowly(p);
    if (sink->scope & p->places->mask) {
        uint64_t count = __atomic_load_n(sink->words, __ATOMIC_RELAXED), n = (uint64_t)l->count;
        if (count >= sink->capacity || n > sink->capacity - count || n > 4)
            return fire_slowly(p);
        const uint64_t *pcs = p->pcs;
        uint64_t *to = sink->words + 1 + count;
        if (l->flags & GOES_ON && has_begun(sink, pcs[0])) {
            pcs++;
            n--;
        }
        switch (n) {
        case 4:
            to[3] = pcs[3]; /* fall through */
        case 3:
            to[2] = pcs[2]; /* fall through */
        case 2:
            to[1] = pcs[1]; /* fall through */
        case 1:
            to[0] = pcs[0]; /* fall through */
        case 0:
            break;
        }
        store(sink->words, count + n);
        if (l->flags & BEGINS)
            begin_loop(sink, p->pcs[l->count - 1]);
    }
    return 0;
}

static inline int fire_plainly(ProbeObject *p, uint64_t n)
{
    SinkObject *sink = usual_sink();
    if (!sink)
        return fire_slowly(p);
    if (sink->scope & p->places->mask) {
        uint64_t *words = sink->words, count = __atomic_load_n(words, __ATOMIC_RELAXED);
        if (count >= sink->capacity || n > sink->capacity - count)
            return fire_slowly(p);
        for (uint64_t i = 0; i < n; i++)
            words[count + 1 + i] = p->pcs[i];
        store(words, count + n);
    }
    return 0;
}

static inline PyObject *false_unless(int failed)
{
    if (failed)
        return NULL;
    Py_RETURN_FALSE;
}

static PyObject *single_fire(ProbeObject *p) { return false_unless(fire_plainly(p, 1)); }
static PyObject *double_fire(ProbeObject *p) { return false_unless(fire_plainly(p, 2)); }
static PyObject *long_fire(LongProbeObject *l) { return false_unless(fire_long(l)); }

#ifdef SHORT_SITES
/* What an iterator that has ended returns: NULL, without an exception. */
static PyObject *single_next(ProbeObject *p) { return fire_plainly(p, 1), NULL; }
static PyObject *double_next(ProbeObject *p) { return fire_plainly(p, 2), NULL; }
static PyObject *long_next(LongProbeObject *l) { return fire_long(l), NULL; }
#define ITERATES(next) .tp_iternext = (iternextfunc)(next),
#else
#define ITERATES(next)
#endif

/* marshal writes what has a buffer as bytes. The copy's sites sleep: nobody looks at them. */
static int probe_buffer(PyObject *self, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, self, "pykcov", 6, 1, flags);
}

static PyObject *probe_reduce(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(arg))
{
    return Py_BuildValue("O(y)", &PyBytes_Type, "pykcov");
}

static PyMethodDef probe_methods[] = {
    {"__reduce__", probe_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyNumberMethods probe_number = {.nb_invert = (unaryfunc)long_fire};
static PyNumberMethods single_number = {.nb_invert = (unaryfunc)single_fire};
static PyNumberMethods double_number = {.nb_invert = (unaryfunc)double_fire};
static PyBufferProcs probe_as_buffer = {.bf_getbuffer = probe_buffer};

static PyTypeObject ProbeType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Probe",
    .tp_basicsize = sizeof(LongProbeObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = probe_new,
    .tp_dealloc = (destructor)probe_free,
    .tp_as_number = &probe_number,
    ITERATES(long_next)
    .tp_as_buffer = &probe_as_buffer,
    .tp_methods = probe_methods,
};

static PyTypeObject SingleType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Probe",
    .tp_basicsize = sizeof(ProbeObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)probe_free,
    .tp_as_number = &single_number,
    ITERATES(single_next)
    .tp_as_buffer = &probe_as_buffer,
    .tp_methods = probe_methods,
};

static PyTypeObject DoubleType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Probe",
    .tp_basicsize = sizeof(ProbeObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)probe_free,
    .tp_as_number = &double_number,
    ITERATES(double_next)
    .tp_as_buffer = &probe_as_buffer,
    .tp_methods = probe_methods,
};

/* ------------------------------------------------------------------ sites */

#define PART_BEFORE (1u << 31) /* with a unit: behind a LOAD_FAST */

typedef struct {
    uint32_t unit;          /* which code unit changes */
    uint16_t awake, asleep; /* opcode, argument */
} site_t;

typedef struct sites {
    struct sites *next, *before;
    PyCodeObject *code; /* borrowed: its extra frees this */
    int parts;          /* some have PART_BEFORE */
    Py_ssize_t n;
    site_t site[];
} sites_t;

static struct {
    sites_t *first;
    Py_ssize_t extra;
    int awake;
    Py_ssize_t n, stuck; /* sites in all; those that another tool's instrumentation kept from waking */
} all_sites = {.extra = -1};

/* Where other tools may have events, or two instructions may have become one. */
static __attribute__((noinline)) void set_sites_carefully(sites_t *s, int awake)
{
    for (Py_ssize_t i = 0; i < s->n; i++) {
        site_t *site = &s->site[i];
        uint32_t unit = site->unit & ~PART_BEFORE;
        if (site->unit & PART_BEFORE)
            part_unit(s->code, unit);
        if (set_unit_at(s->code, unit, awake ? site->awake : site->asleep) < 0)
            all_sites.stuck++;
    }
}

static inline void set_sites(sites_t *s, int awake)
{
    if (s->parts || is_instrumented(s->code)) {
        set_sites_carefully(s, awake);
        return;
    }
    uint8_t *units = units_of(s->code);
    for (Py_ssize_t i = 0; i < s->n; i++)
        put_unit(units + 2 * s->site[i].unit, awake ? s->site[i].awake : s->site[i].asleep);
}

static void drop_sites(void *extra)
{
    sites_t *s = extra;
    if (!s)
        return;
    all_sites.n -= s->n;
    if (s->next)
        s->next->before = s->before;
    if (s->before)
        s->before->next = s->next;
    else
        all_sites.first = s->next;
    PyMem_Free(s);
}

static sites_t *sites_of(PyObject *code)
{
    void *sites = NULL;
    return GET_EXTRA(code, all_sites.extra, &sites) < 0 ? NULL : sites;
}

/* add_sites(code, sites): of a code object that nobody has seen yet. `sites` are (u32 unit, u32 how far to jump behind
 * it in units; 0: it is an UNARY_INVERT, which becomes a NOP). PART_BEFORE is set in a unit behind a LOAD_FAST. */
static PyObject *add_sites(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *code;
    Py_buffer table;
    if (!PyArg_ParseTuple(args, "O!y*", &PyCode_Type, &code, &table))
        return NULL;
    Py_ssize_t n = table.len / 8, units = Py_SIZE(code);
    sites_t *s = PyMem_Malloc(sizeof(sites_t) + (size_t)n * sizeof(site_t));
    PyObject *co_code = NULL;
    if (!s) {
        PyBuffer_Release(&table);
        return PyErr_NoMemory();
    }
    *s = (sites_t){.code = (PyCodeObject *)code, .n = n};
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t unit = ((uint32_t *)table.buf)[2 * i], skip = ((uint32_t *)table.buf)[2 * i + 1];
        if (skip > 255 || (Py_ssize_t)((uint64_t)(unit & ~PART_BEFORE) + skip) >= units) {
            PyErr_SetString(PyExc_ValueError, "no such site");
            goto out;
        }
        s->parts |= (unit & PART_BEFORE) != 0;
        s->site[i] = (site_t){unit, unit_at(s->code, unit & ~PART_BEFORE), make_unit(skip ? JUMP_FORWARD : NOP, skip)};
    }
    set_sites(s, 0);
    forget_running();
    co_code = PyObject_GetAttrString(code, "co_code"); /* kept by the code object, as it is now */
    if (!co_code || SET_EXTRA(code, all_sites.extra, s) < 0)
        goto out;
    s->next = all_sites.first;
    if (s->next)
        s->next->before = s;
    all_sites.first = s;
    all_sites.n += n;
    for (Py_ssize_t i = 0; i < n; i++) /* copies are made of what was there before */
        shorten(s->code, s->site[i].unit & ~PART_BEFORE, ((uint32_t *)table.buf)[2 * i + 1]);
    if (all_sites.awake)
        set_sites(s, 1);
    forget_running();
    s = NULL;
out:
    PyMem_Free(s);
    Py_XDECREF(co_code);
    PyBuffer_Release(&table);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* wake(awake) -> how many sites could not be set */
static PyObject *wake(PyObject *Py_UNUSED(module), PyObject *arg)
{
    all_sites.awake = PyObject_IsTrue(arg);
    all_sites.stuck = 0;
    for (sites_t *s = all_sites.first; s; s = s->next)
        set_sites(s, all_sites.awake);
    forget_running();
    return PyLong_FromSsize_t(all_sites.stuck);
}

static PyObject *is_probed(PyObject *Py_UNUSED(module), PyObject *code)
{
    return PyBool_FromLong(PyCode_Check(code) && sites_of(code));
}

static PyObject *count_sites(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    return Py_BuildValue("nO", all_sites.n, all_sites.awake ? Py_True : Py_False);
}

/* Returns the number behind a prefix, -1 if a text is something else. */
static Py_ssize_t number_behind(PyObject *text, PyObject *prefix)
{
    const Py_ssize_t start = PyUnicode_GET_LENGTH(prefix), end = PyUnicode_GET_LENGTH(text);
    if (end <= start || end > start + 9 || PyUnicode_Tailmatch(text, prefix, 0, PY_SSIZE_T_MAX, -1) != 1)
        return -1;
    Py_ssize_t number = 0;
    for (Py_ssize_t i = start; i < end; i++) {
        const Py_UCS4 digit = PyUnicode_READ_CHAR(text, i) - '0';
        if (digit > 9)
            return -1;
        number = 10 * number + (Py_ssize_t)digit;
    }
    return number;
}

/* Puts probes in the place of the placeholders in a code object that nobody has seen yet, and in all that are in it.
 * Who calls keeps them for ever, for code of the same file that is loaded again: nobody has to count. */
static void plant_in(PyCodeObject *code, PyObject *probes, PyObject *prefix)
{
    PyObject *consts = code->co_consts;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(consts); i++) {
        PyObject *value = PyTuple_GET_ITEM(consts, i);
        if (PyCode_Check(value)) {
            plant_in((PyCodeObject *)value, probes, prefix);
        } else if (PyUnicode_CheckExact(value)) {
            const Py_ssize_t number = number_behind(value, prefix);
            if (number < 0 || number >= PyList_GET_SIZE(probes))
                continue;
            PyObject *probe = PyList_GET_ITEM(probes, number);
            PyTuple_SET_ITEM(consts, i, Py_NewRef(probe));
            STOP_COUNTING(probe);
            Py_DECREF(value);
        }
    }
}

static PyObject *plant(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *code, *probes, *prefix;
    if (!PyArg_ParseTuple(args, "O!O!U", &PyCode_Type, &code, &PyList_Type, &probes, &prefix))
        return NULL;
    plant_in((PyCodeObject *)code, probes, prefix);
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------ code without probes */

/* An audit hook: tells Python of code that is about to run and has no probes. */
static int on_audit(const char *event, PyObject *args, void *Py_UNUSED(data))
{
    if (!state.uncompiled || here.quiet || !args)
        return 0;
    PyObject *code = NULL;
    if (strcmp(event, "exec") == 0 && PyTuple_GET_SIZE(args) == 1)
        code = PyTuple_GET_ITEM(args, 0); /* a code object */
    else if (strcmp(event, "code.__new__") == 0 && PyTuple_GET_SIZE(args) > 1)
        code = PyTuple_GET_ITEM(args, 1); /* its file's name */
    if (!code || (PyCode_Check(code) && sites_of(code)))
        return 0;
    int lost = 0;
    return call_hook(state.uncompiled, code, &lost);
}

/* watch_exec(): call `uncompiled` from now on. An audit hook cannot be taken off again. */
static PyObject *watch_exec(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    static int watching;
    if (!watching && PySys_AddAuditHook(on_audit, NULL) < 0)
        return NULL;
    watching = 1;
    Py_RETURN_NONE;
}

#define COMPILED_METHODS                          \
    {"add_sites", add_sites, METH_VARARGS, NULL}, \
    {"wake", wake, METH_O, NULL},                 \
    {"is_probed", is_probed, METH_O, NULL},       \
    {"count_sites", count_sites, METH_NOARGS, NULL}, \
    {"make_probes", make_probes, METH_VARARGS, NULL}, \
    {"plant", plant, METH_VARARGS, NULL},         \
    {"watch_exec", watch_exec, METH_NOARGS, NULL},
