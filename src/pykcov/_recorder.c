/* The hot path: is the current task collecting, append, count what did not fit.
 *
 * Python holds every rule but those of what runs once per event, of what runs when an annotation finds nobody listening,
 * and of a section's beginning and end (_sections.h). This file knows tasks, sinks (an area and who wants what in it), units
 * (what a code object's places are called) and the handle table; it knows no devices and no files, and of a mode whether a
 * sink wants PCs or comparisons.
 *
 * Everything here runs with the GIL held. Words in shared memory are read and written with atomics,
 * count last, because other processes look at them. See _recorder.pyi for what Python sees.
 */
#define _GNU_SOURCE /* open-file-description locks */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>
#include <stddef.h>
#include <structmember.h>

#include "_handles.h"

#if PY_VERSION_HEX < 0x030c0000
#define REQUEST_EXTRA _PyEval_RequestCodeExtraIndex
#define GET_EXTRA _PyCode_GetExtra
#define SET_EXTRA _PyCode_SetExtra
#define THIS_THREAD() _PyThreadState_UncheckedGet()
#else
#define REQUEST_EXTRA PyUnstable_Eval_RequestCodeExtraIndex
#define GET_EXTRA PyUnstable_Code_GetExtra
#define SET_EXTRA PyUnstable_Code_SetExtra
#define THIS_THREAD() PyThreadState_Get()
#endif

#if PY_VERSION_HEX >= 0x030d0000
#define IS_FINALIZING() Py_IsFinalizing()
#define CURRENT_FRAME(ts) ((ts)->current_frame)
#else
#define IS_FINALIZING() _Py_IsFinalizing()
#define CURRENT_FRAME(ts) ((ts)->cframe->current_frame)
#endif

/* Of the references to an object that is never freed: each use of it is two stores fewer. */
#if defined(_Py_IMMORTAL_REFCNT) && !defined(Py_GIL_DISABLED)
#define STOP_COUNTING(object) ((object)->ob_refcnt = _Py_IMMORTAL_REFCNT)
#else
#define STOP_COUNTING(object) ((void)(object))
#endif

static inline long as_long(PyObject *number)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)number))
        return (long)PyUnstable_Long_CompactValue((PyLongObject *)number);
#endif
    return PyLong_AsLong(number);
}

/* ------------------------------------------------------------------ state of the process */

static struct {
    PyObject *task_var;      /* ContextVar: the Task of the context that set it (copies see it too) */
    PyObject *inherited_var; /* ContextVar: an Inherited, immutable, so that copies keep their own */
    PyObject *this_task;     /* this_task_(), for call_hook() */
    PyTypeObject *task, *section; /* task.py's and remote.py's */
    PyObject *owners;        /* set of the tasks whose end has to be seen */
    PyObject *sessions;      /* {key: Session}: what this process knows */
    PyObject *discover;      /* discover(code) -> Unit */
    PyObject *idle;          /* idle(): nobody listens any more; disarm */
    PyObject *find;          /* find(handle): the slow way, when the table is not settled or mapped */
    PyObject *enter;         /* enter(handle, key, task, implicit) -> a section, or None */
    PyObject *warn;          /* warn(text) */
    PyObject *uncompiled;    /* uncompiled(code or file's name): it runs, and has no probes */
    PyObject *contain;       /* contain(exception) -> whether it was pykcov's own, which is told and over */
    PyObject *disable;       /* sys.monitoring.DISABLE */
    PyObject *own;           /* what the names of pykcov's own files begin with: they are in no scope */
    Py_ssize_t extra;        /* index of the unit in a code object's extras */
    uint64_t epoch;          /* any thread's cached task is void once this has moved */
    uint64_t armed;          /* units of an older number have to be discovered again */
    uint64_t process;        /* moves at fork: a task of another process is nobody's */
    pid_t pid;
    uint64_t task_ids, turns;
    uint64_t bits;           /* the bits of scopes are others once this has moved */
    int awake;               /* the probes of PCs: who attaches a sink has nothing to arm */
    Py_ssize_t sinks;        /* of PCs, attached in the whole process */
    Py_ssize_t comparing;    /* sinks of comparisons */
    Py_ssize_t following;    /* Inherited that make tasks follow, and are in force */
    Py_buffer header_buffer, entries_buffer;
    table_t table;
} state = {.extra = -1, .epoch = 1, .armed = 1};

/* Why 3.11 traces this thread: how many sinks were attached in it. Freed when nobody points to it. */
typedef struct {
    Py_ssize_t references, wanted;
} thread_t;

/* The operands of comparisons that do not fit into a word, beside an area: a record has base + offset. Whoever makes the
 * area's count 0 empties this too. */
typedef struct {
    uint64_t used; /* bytes */
    uint64_t base; /* bytes that were taken out before */
    uint8_t bytes[];
} operands_t;
enum { OPERANDS_HEAD = offsetof(operands_t, bytes) };

/* A loop that has begun, and has not come to its body yet: what it goes over is being made, which may run anything. */
typedef struct {
    const void *frame; /* compared, never looked into */
    uint64_t pc;
} begun_t;
enum { BEGUN_ROOM = 16 };

typedef struct {
    PyObject_HEAD
    uint64_t *words;    /* [count, record ...] */
    uint64_t capacity;  /* records */
    uint64_t scope;     /* one bit: units that have it are wanted */
    int nbegun;
    /* Up to here for each event: in one line of the cache. */
    Py_buffer area_buffer, lost_buffer, operands_buffer;
    operands_t *operands; /* NULL: it wants PCs */
    uint64_t operand_room;
    uint64_t *lost;     /* counts what did not fit */
    uint64_t detached;  /* how often it was: who holds on to it may find it in another task */
    uint64_t turn;      /* another one when it is detached or gets another area: who has the number knows where it is */
    int branch;         /* branch arms are wanted too */
    int kernel;         /* what the kernel records is wanted too */
    PyObject *on_full;  /* on_full(): makes room, or does not; NULL for none */
    int in_full, attached;
    thread_t *thread;
    begun_t begun[BEGUN_ROOM]; /* callers' before those of what they call; also of frames that have ended by an exception */
} SinkObject;

typedef struct {
    PyObject_HEAD
    uint64_t id;
    uint64_t process;
    PyObject *context;  /* address of the Context that owns it: compared, and only while ... */
    PyObject *owner;    /* ... this weak reference to it is alive */
    PyObject *local, *remote;    /* the devices that it has enabled */
    PyObject *sections, *starts; /* lists: its open sections; one entry for each remote_start(), None: nobody listened */
    Py_ssize_t nsinks, room; /* of PCs */
    SinkObject **sinks;
    Py_ssize_t ncomparing, comparing_room;
    SinkObject **comparing;
} TaskObject;

typedef struct {
    PyObject_HEAD
    unsigned long long handle, device;
    char follow, live;
    PyObject *outer; /* what the context had before: an Inherited, or None */
} InheritedObject;

/* What the kernel's kcov records for a thread: see _kernel.h. */
typedef struct {
    Py_buffer buffer;
    uint64_t *words; /* [count, PC ...]: the kernel adds to them */
    uint64_t capacity;
    uint64_t noticed; /* how many there were when pykcov's own code began to run; what comes then is not the program's */
    TaskObject *task; /* whose event was the last one: what comes is for it; a reference */
    int busy;
} kernel_t;

/* Initial-exec: a general-dynamic variable costs 2 ns more at each event. Keep it small, the
 * surplus of static TLS is. */
static __thread struct {
    PyThreadState *ts; /* NULL until watch_thread() sees to it that it will be when the state dies */
    uint64_t version, epoch; /* 0: no event goes the fast way */
    TaskObject *task;
    SinkObject *collecting; /* the task's only sink of PCs, `nowhere` if it has none; NULL: not the usual case */
    SinkObject *comparing;  /* the task's only sink of comparisons, NULL for none or several */
    thread_t *traced;
    int quiet; /* pykcov's own code runs, and what it calls is not the program */
    kernel_t *kernel; /* NULL: this thread does not collect the kernel's */
} here __attribute__((tls_model("initial-exec")));

/* Of the others, while one task collects: it has no scope. */
static SinkObject nowhere;

static inline void hush(void)
{
    here.epoch = 0;
    if (!here.quiet++ && here.kernel)
        here.kernel->noticed = load(here.kernel->words);
}

static inline void unhush(void)
{
    if (!--here.quiet && here.kernel)
        store(here.kernel->words, here.kernel->noticed);
}

/* Around calls of pykcov's own Python code: it is not the program either for a debugger. */
static inline void enter_own(void)
{
    hush();
    PyThreadState_EnterTracing(THIS_THREAD());
}

static inline void leave_own(void)
{
    PyThreadState_LeaveTracing(THIS_THREAD());
    unhush();
}

static PyTypeObject SinkType, TaskType, UnitType, InheritedType;

/* ------------------------------------------------------------------ the current task */

/* What was found for the contexts that ran lately: asyncio tasks that interleave change the context at each
 * step. A task stays found for as long as its owner lives; that there is none, for the epoch. */
typedef struct {
    PyObject *context; /* compared, never looked into */
    TaskObject *task;  /* borrowed: task_free() takes it out */
    uint64_t epoch;
} recent_t;
static recent_t recent[256];

static recent_t *recent_of(PyObject *context)
{
    /* Contexts are 64 bytes and more apart, and not all multiples of a power of two. */
    uintptr_t bits = (uintptr_t)context >> 4;
    return &recent[(bits ^ bits >> 8) % (sizeof recent / sizeof *recent)];
}

static int is_alive(PyObject *reference)
{
#if PY_VERSION_HEX < 0x030d0000
    return PyWeakref_GET_OBJECT(reference) != Py_None;
#else
    PyObject *object = NULL;
    int alive = PyWeakref_GetRef(reference, &object) > 0;
    Py_XDECREF(object);
    return alive;
#endif
}

/* Returns the task that belongs to the current context (borrowed), NULL if it has none. */
static TaskObject *own_task(PyThreadState *ts)
{
    PyObject *value = NULL;
    if (PyContextVar_Get(state.task_var, NULL, &value) < 0 || !value) {
        PyErr_Clear();
        return NULL;
    }
    TaskObject *task = (TaskObject *)value;
    Py_DECREF(value); /* the context keeps it */
    /* A copied context holds its origin's task. An address can be used again, so the weak reference
     * has to be alive as well. */
    if (!PyObject_TypeCheck(value, &TaskType) || task->context != ts->context || !task->owner ||
        task->process != state.process || !is_alive(task->owner))
        return NULL;
    return task;
}

static int follows(void)
{
    PyObject *value = NULL;
    if (PyContextVar_Get(state.inherited_var, NULL, &value) < 0 || !value) {
        PyErr_Clear();
        return 0;
    }
    int result = 0;
    for (PyObject *i = value; Py_TYPE(i) == &InheritedType && !result; i = ((InheritedObject *)i)->outer)
        result = ((InheritedObject *)i)->follow && ((InheritedObject *)i)->live;
    Py_DECREF(value);
    return result;
}

static void forget_state(PyObject *Py_UNUSED(capsule))
{
    here.ts = NULL;
    here.collecting = here.comparing = NULL;
}

/* Asking for the thread state costs as much as all else that an event does. A state clears its dictionary when it
 * dies, in its own thread. Only an OS thread that lives on and gets another state would notice. */
static void watch_thread(PyThreadState *ts)
{
    here.ts = NULL;
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    PyObject *watch = dict ? PyCapsule_New(&state, NULL, forget_state) : NULL;
    /* Replacing an older one calls forget_state(): set `ts` after that. */
    if (watch && PyDict_SetItemString(dict, "pykcov._recorder", watch) == 0)
        here.ts = ts;
    Py_XDECREF(watch);
    PyErr_Clear();
}

/* Takes the exception that pykcov's Python code has raised, unless it is the program's: a signal handler's,
 * KeyboardInterrupt. Returns whether it is gone. */
static int contained(void)
{
    if (PyErr_ExceptionMatches(PyExc_RecursionError) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        return 1;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    enter_own();
    PyObject *ours = state.contain ? PyObject_CallOneArg(state.contain, value) : NULL;
    leave_own();
    if (!ours)
        PyErr_Clear();
    int keep = ours == Py_False;
    Py_XDECREF(ours);
    if (keep) {
        PyErr_Restore(type, value, traceback);
        return 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return 1;
}

/* Calls a hook without touching the exception that may be on its way. Returns 0, and sets `lost` if the hook could
 * not do its work; or -1 with an exception that is the program's, as contained() has it. */
static int call_hook(PyObject *hook, PyObject *arg, int *lost)
{
    if (IS_FINALIZING()) /* the hooks' modules may be gone */
        return 0;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    enter_own();
    PyObject *done = arg ? PyObject_CallOneArg(hook, arg) : PyObject_CallNoArgs(hook);
    leave_own();
    if (!done && contained())
        *lost = 1;
    else if (!done) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return -1;
    }
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
    return 0;
}

static void check_thread(void); /* 3.11: does it have to be traced now? */

/* Returns 0, or -1 with an exception as call_hook() does. */
static int refresh(PyThreadState *ts)
{
    recent_t *found = recent_of(ts->context);
    TaskObject *task = found->task;
    if (found->context != ts->context || !ts->context ||
        (task ? task->process != state.process || !task->owner || !is_alive(task->owner)
              /* Another context at the address of a dead one has a task only after an epoch, or follows. */
              : found->epoch != state.epoch || state.following)) {
        int lost = 0;
        task = own_task(ts);
        if (!task && state.following && follows()) {
            if (call_hook(state.this_task, NULL, &lost) < 0)
                return -1;
            task = own_task(ts);
        }
        *recent_of(ts->context) = (recent_t){ts->context, task, state.epoch};
    }
    if (here.ts != ts)
        watch_thread(ts);
    check_thread();
    here.task = task;
    here.collecting = here.comparing = NULL;
    if (here.ts && task && task->nsinks)
        here.collecting = task->nsinks == 1 ? task->sinks[0] : NULL;
    else if (here.ts && state.sinks)
        here.collecting = &nowhere;
    if (here.ts && task && task->ncomparing == 1)
        here.comparing = task->comparing[0];
    here.version = ts->context_ver;
    here.epoch = here.kernel || here.quiet ? 0 : state.epoch; /* past kernel_event() */
    return 0;
}

static int kernel_event(TaskObject *task);

/* Tells whether here.task is the current task, and nothing has to be done before its event. */
static inline int is_current(void)
{
    return here.ts && here.version == here.ts->context_ver && here.epoch == state.epoch;
}

static inline int current(TaskObject **task)
{
    if (!is_current())
        if (refresh(THIS_THREAD()) < 0)
            return -1;
    *task = here.task;
    return here.kernel ? kernel_event(here.task) : 0;
}

/* ------------------------------------------------------------------ append */

/* The bytes of operands that are in use; 0 with the first record, whoever has stored a 0 in the count word. */
static inline uint64_t operands_used(operands_t *operands, uint64_t count, uint64_t room)
{
    uint64_t used = count ? load(&operands->used) : 0;
    return used < room ? used : room; /* it may be damaged */
}

static inline int has_room(SinkObject *sink, uint64_t count, uint64_t bytes)
{
    return count < sink->capacity &&
           (!bytes || bytes <= sink->operand_room - operands_used(sink->operands, count, sink->operand_room));
}

/* Asks for room for a record with so many bytes of operands. Returns whether it is there; else the event is counted as
 * lost. Sets `failed` to -1 if a signal handler has raised. */
static int make_room(SinkObject *sink, uint64_t bytes, int *failed)
{
    Py_INCREF(sink); /* on_full may detach it, or give it another area */
    const uint64_t detached = sink->detached;
    if (sink->on_full && !sink->in_full) {
        int lost = 0;
        PyObject *on_full = Py_NewRef(sink->on_full); /* which forgets it when it is detached */
        sink->in_full = 1;
        if (call_hook(on_full, NULL, &lost) < 0)
            *failed = -1;
        if (sink->detached == detached)
            sink->in_full = 0;
        Py_DECREF(on_full);
    }
    const int stays = sink->detached == detached;
    int fits = stays && has_room(sink, load(sink->words), bytes);
    if (stays && !fits)
        __atomic_fetch_add(sink->lost, 1, __ATOMIC_RELAXED);
    Py_DECREF(sink);
    return fits;
}

static inline int append(SinkObject *sink, uint64_t pc)
{
    uint64_t *words = sink->words;
    uint64_t count = __atomic_load_n(words, __ATOMIC_RELAXED);
    int failed = 0;
    if (count >= sink->capacity) {
        if (!make_room(sink, 0, &failed))
            return failed;
        words = sink->words;
        count = __atomic_load_n(words, __ATOMIC_RELAXED);
    }
    words[count + 1] = pc;
    store(words, count + 1);
    return failed;
}

/* Returns 0, or -1 with a signal handler's exception. The PC is recorded in either case. */
static inline int record(TaskObject *task, uint64_t mask, uint64_t pc, int branch)
{
    int failed = 0;
    for (Py_ssize_t i = 0; i < task->nsinks; i++) {
        SinkObject *sink = task->sinks[i];
        if ((sink->scope & mask) && (!branch || sink->branch) && append(sink, pc) < 0)
            failed = -1;
    }
    return failed;
}

#include "_kernel.h"
#include "_operands.h"

/* ------------------------------------------------------------------ Unit: the places of a code object */

typedef struct {
    uint32_t fall;              /* offset of the instruction that follows in sequence */
    uint32_t implied;           /* number from 1 of [n, PC of an arm ...] that jumping takes as well, 0 for none */
    uint64_t taken, not_taken;  /* PC of the line that begins there, 0 for none */
    uint64_t taken_arm, not_taken_arm;
} jump_t;

typedef struct {
    PyObject_HEAD
    uint64_t mask;  /* the scopes that it is in; 0: out of all */
    uint64_t armed; /* state.armed when its events were set */
    uint64_t entry;
    long first; /* line of lines[0] */
    unsigned long nlines;
    const uint64_t *line_pcs;
    Py_buffer lines, starts, jump_at, jumps, implied, handlers;
    int branch;
} UnitObject;

static void unit_free(UnitObject *u)
{
    PyBuffer_Release(&u->lines);
    PyBuffer_Release(&u->starts);
    PyBuffer_Release(&u->jump_at);
    PyBuffer_Release(&u->jumps);
    PyBuffer_Release(&u->implied);
    PyBuffer_Release(&u->handlers);
    Py_TYPE(u)->tp_free((PyObject *)u);
}

static PyObject *unit_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    static char *names[] = {"entry", "first", "lines", "starts", "jump_at", "jumps", "implied",
                             "handlers", "branch", NULL};
    UnitObject *u = (UnitObject *)type->tp_alloc(type, 0);
    if (!u)
        return NULL;
    unsigned long long entry = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kw, "|Kly*y*y*y*y*y*p", names, &entry, &u->first, &u->lines,
                                     &u->starts, &u->jump_at, &u->jumps, &u->implied, &u->handlers, &u->branch)) {
        Py_DECREF(u);
        return NULL;
    }
    u->entry = entry;
    u->line_pcs = u->lines.buf;
    u->nlines = (unsigned long)u->lines.len / 8;
    return (PyObject *)u;
}

static inline uint64_t at(const Py_buffer *table, Py_ssize_t i)
{
    return i >= 0 && i < table->len / (Py_ssize_t)sizeof(uint64_t) ? ((uint64_t *)table->buf)[i] : 0;
}

static inline uint64_t line_pc(const UnitObject *u, long line)
{
    unsigned long i = (unsigned long)(line - u->first);
    return i < u->nlines ? u->line_pcs[i] : 0;
}

static const jump_t *jump_of(const UnitObject *u, Py_ssize_t offset)
{
    uint64_t i = at(&u->jump_at, offset / 2);
    return i && (Py_ssize_t)(i * sizeof(jump_t)) <= u->jumps.len ? (jump_t *)u->jumps.buf + (i - 1) : NULL;
}

/* Records the arms of a jump that was taken, or not. Returns as record() does. */
static int record_arms(TaskObject *task, const UnitObject *u, const jump_t *jump, int taken)
{
    uint64_t arm = taken ? jump->taken_arm : jump->not_taken_arm;
    int failed = arm ? record(task, u->mask, arm, 1) : 0;
    if (taken && jump->implied)
        for (uint64_t i = 0, n = at(&u->implied, jump->implied - 1); i < n; i++)
            if (record(task, u->mask, at(&u->implied, (Py_ssize_t)(jump->implied + i)), 1) < 0)
                failed = -1;
    return failed;
}

static PyMemberDef unit_members[] = {
    {"mask", T_ULONGLONG, offsetof(UnitObject, mask), 0, "bits of the scopes that it is in"},
    {"armed", T_ULONGLONG, offsetof(UnitObject, armed), 0, "arming under which its events were set"},
    {"entry", T_ULONGLONG, offsetof(UnitObject, entry), READONLY, "PC of its entry"},
    {"branch", T_INT, offsetof(UnitObject, branch), READONLY, "whether its arms are known"},
    {NULL},
};

static PyTypeObject UnitType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Unit",
    .tp_basicsize = sizeof(UnitObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = unit_new,
    .tp_dealloc = (destructor)unit_free,
    .tp_members = unit_members,
};

/* The code object that was asked for last: most events come from the one before. */
static struct {
    PyObject *code;
    UnitObject *unit;
} last;

static void drop_unit(void *unit)
{
    last.code = NULL; /* its address may be another's soon */
    Py_XDECREF((PyObject *)unit);
}

static UnitObject *unit_of_other(PyObject *code)
{
    void *unit = NULL;
    if (GET_EXTRA(code, state.extra, &unit) < 0 || !unit)
        return NULL;
    last.code = code;
    last.unit = unit;
    return unit;
}

static inline UnitObject *unit_of(PyObject *code) { return code == last.code ? last.unit : unit_of_other(code); }

/* Gives a code object that begins or goes on to run its unit. Returns NULL if there was no stack left to do that
 * (the events until the next try are lost, and counted as one), or with an exception as call_hook() does. */
static UnitObject *discover(PyObject *code)
{
    UnitObject *unit = unit_of(code);
    if (unit && unit->armed == state.armed)
        return unit;
    int lost = 0;
    TaskObject *task;
    if (call_hook(state.discover, code, &lost) < 0 || current(&task) < 0)
        return NULL;
    for (Py_ssize_t i = 0; lost && task && i < task->nsinks; i++)
        __atomic_fetch_add(task->sinks[i]->lost, 1, __ATOMIC_RELAXED);
    return unit_of(code);
}

static PyObject *get_unit(PyObject *Py_UNUSED(module), PyObject *code)
{
    UnitObject *unit = PyCode_Check(code) ? unit_of(code) : NULL;
    return Py_NewRef(unit ? (PyObject *)unit : Py_None);
}

static PyObject *set_unit(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *code, *unit;
    if (!PyArg_ParseTuple(args, "O!O!", &PyCode_Type, &code, &UnitType, &unit))
        return NULL;
    /* It calls drop_unit() for what was there before. */
    if (SET_EXTRA(code, state.extra, Py_NewRef(unit)) < 0)
        return NULL;
    last.code = NULL;
    Py_RETURN_NONE;
}

/* Nothing is attached in this process. Disarm unless somebody in the namespace listens. */
static int nobody(void)
{
    if (!state.idle || (state.table.header && load(&state.table.header[HEADER_COUNT]) != 0))
        return 0;
    int lost = 0;
    return call_hook(state.idle, NULL, &lost);
}

/* ------------------------------------------------------------------ the probes: events -> PCs */

#if PY_VERSION_HEX >= 0x030c0000
#include "_monitor312.h"
#else
#include "_trace311.h"
#endif
#include "_probes.h"

/* ------------------------------------------------------------------ Sink */

static void sink_free(SinkObject *s)
{
    Py_XDECREF(s->on_full);
    PyBuffer_Release(&s->area_buffer);
    PyBuffer_Release(&s->lost_buffer);
    PyBuffer_Release(&s->operands_buffer);
    Py_TYPE(s)->tp_free((PyObject *)s);
}

/* Takes the buffers of an area into use. Returns -1, and leaves them alone, if they are too small, or those of another mode
 * than the sink was attached for. */
static int sink_bind(SinkObject *s, const Py_buffer *area, const Py_buffer *lost, const Py_buffer *operands)
{
    uint64_t words = operands->len ? RECORD_WORDS : 1;
    if (lost->len < 8 || area->len < 8 || s->capacity > ((uint64_t)area->len / 8 - 1) / words ||
        (operands->len && operands->len < OPERANDS_HEAD) || (s->attached && !operands->len != !s->operands)) {
        PyErr_SetString(PyExc_ValueError, "the area is smaller than its capacity, or of another mode");
        return -1;
    }
    s->area_buffer = *area;
    s->lost_buffer = *lost;
    s->operands_buffer = *operands;
    s->words = area->buf;
    s->lost = lost->buf;
    s->operands = operands->len ? operands->buf : NULL;
    s->operand_room = operands->len ? (uint64_t)(operands->len - OPERANDS_HEAD) : 0;
    return 0;
}

static PyObject *sink_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    static char *names[] = {"area", "capacity", "lost", "operands", NULL};
    Py_buffer area = {0}, lost = {0}, operands = {0};
    unsigned long long capacity;
    SinkObject *s = (SinkObject *)type->tp_alloc(type, 0);
    if (!s || !PyArg_ParseTupleAndKeywords(args, kw, "w*Kw*|w*", names, &area, &capacity, &lost, &operands)) {
        Py_XDECREF(s);
        return NULL;
    }
    s->capacity = capacity;
    s->turn = ++state.turns;
    if (sink_bind(s, &area, &lost, &operands) == 0)
        return (PyObject *)s;
    PyBuffer_Release(&area);
    PyBuffer_Release(&lost);
    PyBuffer_Release(&operands);
    Py_DECREF(s);
    return NULL;
}

static PyObject *sink_next_turn(SinkObject *Py_UNUSED(s), PyObject *Py_UNUSED(arg))
{
    return PyLong_FromUnsignedLongLong(++state.turns);
}

/* move_on(turn, next, area, lost, operands) -> whether it has; not if that turn is over */
static PyObject *sink_move_on(SinkObject *s, PyObject *args)
{
    Py_buffer area = {0}, lost = {0}, operands = {0};
    unsigned long long turn, next;
    if (!PyArg_ParseTuple(args, "KKw*w*|w*", &turn, &next, &area, &lost, &operands))
        return NULL;
    Py_buffer old[] = {s->area_buffer, s->lost_buffer, s->operands_buffer};
    Py_buffer unused[] = {area, lost, operands};
    const int is_over = !s->attached || s->turn != turn;
    const int moves = !is_over && sink_bind(s, &area, &lost, &operands) == 0;
    if (moves)
        s->turn = next;
    for (int i = 0; i < 3; i++)
        PyBuffer_Release(moves ? &old[i] : &unused[i]);
    return moves || is_over ? PyBool_FromLong(moves) : NULL;
}

static PyMethodDef sink_methods[] = {
    {"next_turn", (PyCFunction)sink_next_turn, METH_NOARGS, NULL},
    {"move_on", (PyCFunction)sink_move_on, METH_VARARGS, NULL},
    {NULL},
};

static PyMemberDef sink_members[] = {
    {"turn", T_ULONGLONG, offsetof(SinkObject, turn), READONLY, "another one when it is detached or gets another area"},
    {"scope", T_ULONGLONG, offsetof(SinkObject, scope), 0, "bit of the units that are wanted; 0: none at present"},
    {NULL},
};

static PyTypeObject SinkType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Sink",
    .tp_basicsize = sizeof(SinkObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = sink_new,
    .tp_methods = sink_methods,
    .tp_members = sink_members,
    .tp_dealloc = (destructor)sink_free,
};

/* ------------------------------------------------------------------ Task */

static PyObject *task_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kw))
{
    TaskObject *t = (TaskObject *)type->tp_alloc(type, 0);
    if (t) {
        t->id = ++state.task_ids;
        t->process = state.process;
        t->sections = PyList_New(0);
        t->starts = PyList_New(0);
        if (!t->sections || !t->starts)
            Py_CLEAR(t);
    }
    return (PyObject *)t;
}

/* A task's sinks of one mode, and how many of that mode are attached in the process. */
typedef struct {
    Py_ssize_t *n, *room, *attached;
    SinkObject ***sinks;
} sinks_t;

static sinks_t sinks_of(TaskObject *t, int comparing)
{
    if (comparing)
        return (sinks_t){&t->ncomparing, &t->comparing_room, &state.comparing, &t->comparing};
    return (sinks_t){&t->nsinks, &t->room, &state.sinks, &t->sinks};
}

static void release_sink(TaskObject *t, SinkObject *sink)
{
    if (t->process == state.process)
        --*sinks_of(t, sink->operands != NULL).attached;
    sink->attached = 0;
    sink->detached++;
    sink->turn = ++state.turns;
    state.epoch++; /* here.collecting, here.comparing */
    if (!sink->operands)
        release_thread(sink);
    Py_CLEAR(sink->on_full); /* it is a method of who has the sink: a cycle */
    Py_DECREF(sink);
}

static int task_clear(TaskObject *t)
{
    for (int comparing = 0; comparing < 2; comparing++) {
        sinks_t of = sinks_of(t, comparing);
        Py_ssize_t n = *of.n;
        *of.n = 0;
        for (Py_ssize_t i = 0; i < n; i++)
            release_sink(t, (*of.sinks)[i]);
    }
    Py_CLEAR(t->owner);
    Py_CLEAR(t->local);
    Py_CLEAR(t->remote);
    return 0; /* the lists are cleared by themselves */
}

static int task_traverse(TaskObject *t, visitproc visit, void *arg)
{
    Py_VISIT(t->owner);
    Py_VISIT(t->local);
    Py_VISIT(t->remote);
    Py_VISIT(t->sections);
    Py_VISIT(t->starts);
    return 0;
}

static void task_free(TaskObject *t)
{
    PyObject_GC_UnTrack(t);
    state.epoch++;
    if (recent_of(t->context)->task == t)
        *recent_of(t->context) = (recent_t){0};
    task_clear(t);
    PyMem_Free(t->sinks);
    PyMem_Free(t->comparing);
    Py_CLEAR(t->sections);
    Py_CLEAR(t->starts);
    Py_TYPE(t)->tp_free((PyObject *)t);
}

/* Keeps a task alive until it owns nothing: its end has to be seen. */
static int keep(TaskObject *t) { return state.owners ? PySet_Add(state.owners, (PyObject *)t) : 0; }

/* Tells whether Python has put something there: it takes it out by putting None. */
static inline int is_set(PyObject *object) { return object && object != Py_None; }

/* Forgets it if it owns nothing any more. */
static int let_go(TaskObject *t)
{
    if (!state.owners || PyList_GET_SIZE(t->sections) || is_set(t->local) || is_set(t->remote))
        return 0;
    return PySet_Discard(state.owners, (PyObject *)t) < 0 ? -1 : 0;
}

static PyObject *task_own(TaskObject *t, PyObject *Py_UNUSED(arg)) { return keep(t) < 0 ? NULL : Py_NewRef(Py_None); }
static PyObject *task_release(TaskObject *t, PyObject *Py_UNUSED(arg)) { return let_go(t) < 0 ? NULL : Py_NewRef(Py_None); }

/* Lets a task's events go to a sink. Returns 0, or -1 with an exception. */
static int attach(TaskObject *t, SinkObject *sink, uint64_t scope, int branch, PyObject *on_full, int kernel)
{
    if (sink->attached) {
        PyErr_SetString(PyExc_ValueError, "the sink is attached already");
        return -1;
    }
    if (kernel_change(t) < 0)
        return -1;
    sinks_t of = sinks_of(t, sink->operands != NULL);
    if (*of.n == *of.room) {
        Py_ssize_t room = *of.room ? 2 * *of.room : 1;
        SinkObject **sinks = PyMem_Resize(*of.sinks, SinkObject *, room);
        if (!sinks) {
            PyErr_NoMemory();
            return -1;
        }
        *of.sinks = sinks;
        *of.room = room;
    }
    sink->scope = scope;
    sink->branch = branch;
    sink->kernel = kernel;
    sink->on_full = Py_XNewRef(on_full);
    sink->in_full = 0;
    sink->nbegun = 0;
    (*of.sinks)[(*of.n)++] = (SinkObject *)Py_NewRef(sink);
    ++*of.attached;
    sink->attached = 1;
    state.epoch++; /* here.collecting, here.comparing */
    if (!sink->operands)
        want_thread(sink);
    return 0;
}

/* attach(sink, scope, branch) */
static PyObject *task_attach(TaskObject *t, PyObject *args)
{
    PyObject *sink;
    unsigned long long scope;
    int branch;
    if (!PyArg_ParseTuple(args, "O!Kp:attach", &SinkType, &sink, &scope, &branch))
        return NULL;
    return attach(t, (SinkObject *)sink, scope, branch, NULL, 0) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Takes a sink out of a task, if it is still that turn, and returns whether it has. Sets `failed` where an exception is on
 * its way: a signal handler's. */
static int detach(TaskObject *t, SinkObject *sink, uint64_t turn, int *failed)
{
    *failed = kernel_change(NULL) < 0;
    sinks_t of = sinks_of(t, sink->operands != NULL);
    SinkObject **sinks = *of.sinks;
    for (Py_ssize_t i = 0; i < *of.n; i++) {
        if (sinks[i] != sink || sink->turn != turn)
            continue;
        --*of.n;
        memmove(&sinks[i], &sinks[i + 1], (size_t)(*of.n - i) * sizeof(SinkObject *));
        sinks[*of.n] = NULL;
        release_sink(t, sink);
        return 1;
    }
    return 0;
}

/* detach(sink, turn) */
static PyObject *task_detach(TaskObject *t, PyObject *args)
{
    PyObject *sink;
    unsigned long long turn;
    int failed;
    if (!PyArg_ParseTuple(args, "O!K:detach", &SinkType, &sink, &turn))
        return NULL;
    const int is_out = detach(t, (SinkObject *)sink, turn, &failed);
    return failed ? NULL : PyBool_FromLong(is_out);
}

static PyMethodDef task_methods[] = {
    {"own", (PyCFunction)task_own, METH_NOARGS, NULL},
    {"release", (PyCFunction)task_release, METH_NOARGS, NULL},
    {"attach", (PyCFunction)task_attach, METH_VARARGS, NULL},
    {"detach", (PyCFunction)task_detach, METH_VARARGS, NULL},
    {NULL},
};
static PyMemberDef task_members[] = {
    {"serial", T_ULONGLONG, offsetof(TaskObject, id), READONLY, "unique in its process"},
    {"local", T_OBJECT, offsetof(TaskObject, local), 0, "the device that it has enabled"},
    {"remote", T_OBJECT, offsetof(TaskObject, remote), 0, "the device that it has enabled for others"},
    {"sections", T_OBJECT_EX, offsetof(TaskObject, sections), READONLY, "open ones, in order"},
    {"starts", T_OBJECT_EX, offsetof(TaskObject, starts), READONLY, "one for each remote_start()"},
    {NULL},
};

static PyTypeObject TaskType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Task",
    .tp_basicsize = sizeof(TaskObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = task_new,
    .tp_dealloc = (destructor)task_free,
    .tp_traverse = (traverseproc)task_traverse,
    .tp_clear = (inquiry)task_clear,
    .tp_methods = task_methods,
    .tp_members = task_members,
};

static PyObject *current_task(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    TaskObject *task = own_task(THIS_THREAD());
    return Py_NewRef(task ? (PyObject *)task : Py_None);
}

/* ------------------------------------------------------------------ Inherited */

static PyObject *inherited_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    unsigned long long handle, device;
    int follow;
    PyObject *outer;
    if (!PyArg_ParseTuple(args, "KKpO", &handle, &device, &follow, &outer))
        return NULL;
    InheritedObject *i = (InheritedObject *)type->tp_alloc(type, 0);
    if (i) {
        i->handle = handle;
        i->device = device;
        i->follow = follow != 0;
        i->live = 1;
        state.following += i->follow;
        i->outer = Py_NewRef(outer);
    }
    return (PyObject *)i;
}

static PyObject *inherited_end(InheritedObject *i, PyObject *Py_UNUSED(arg))
{
    state.following -= i->live && i->follow;
    i->live = 0;
    Py_RETURN_NONE;
}

static void inherited_free(InheritedObject *i)
{
    state.following -= i->live && i->follow;
    Py_XDECREF(i->outer);
    Py_TYPE(i)->tp_free((PyObject *)i);
}

static PyMemberDef inherited_members[] = {
    {"handle", T_ULONGLONG, offsetof(InheritedObject, handle), READONLY, "the common handle"},
    {"device", T_ULONGLONG, offsetof(InheritedObject, device), READONLY, "sequence << 16 | slot of its session"},
    {"follow", T_BOOL, offsetof(InheritedObject, follow), READONLY, "whoever inherits it is collected"},
    {"live", T_BOOL, offsetof(InheritedObject, live), READONLY, "the session is not over"},
    {"outer", T_OBJECT, offsetof(InheritedObject, outer), READONLY, "what the context had before, or None"},
    {NULL},
};

static PyMethodDef inherited_methods[] = {
    {"end", (PyCFunction)inherited_end, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject InheritedType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Inherited",
    .tp_basicsize = sizeof(InheritedObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = inherited_new,
    .tp_dealloc = (destructor)inherited_free,
    .tp_methods = inherited_methods,
    .tp_members = inherited_members,
};

#include "_lock.h"
#include "_areas.h"
#include "_sections.h"
#include "_remote.h"
#include "_carry.h"
#include "_tally.h"
#include "_compare.h"
#include "_patterns.h"
#include "_methods.h"

/* ------------------------------------------------------------------ quiet */

static PyObject *quiet_enter(PyObject *self, PyObject *Py_UNUSED(arg))
{
    hush();
    return Py_NewRef(self);
}

static PyObject *quiet_exit(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    unhush();
    Py_RETURN_NONE;
}

static PyMethodDef quiet_methods[] = {
    {"__enter__", (PyCFunction)quiet_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))quiet_exit, METH_FASTCALL, NULL},
    {NULL},
};

static PyTypeObject QuietType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Quiet",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_methods = quiet_methods,
    .tp_new = PyType_GenericNew,
};

/* ------------------------------------------------------------------ the module */

static PyObject *install(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kw)
{
    static char *names[] = {"discover", "idle", "find", "enter", "warn", "contain", "disable", "uncompiled", "own", "owners",
                            "sessions", "task", "section", NULL};
    enum { HOOKS = sizeof names / sizeof *names - 1 };
    PyObject *new[HOOKS] = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kw, "|$OOOOOOOOUO!O!O!O!", names, &new[0], &new[1], &new[2], &new[3], &new[4],
                                     &new[5], &new[6], &new[7], &new[8], &PySet_Type, &new[9], &PyDict_Type, &new[10],
                                     &PyType_Type, &new[11], &PyType_Type, &new[12]))
        return NULL;
    PyObject **slots[HOOKS] = {&state.discover, &state.idle, &state.find, &state.enter, &state.warn, &state.contain,
                               &state.disable, &state.uncompiled, &state.own, &state.owners, &state.sessions,
                               (PyObject **)&state.task, (PyObject **)&state.section};
    for (int i = 0; i < HOOKS; i++)
        if (new[i])
            Py_XSETREF(*slots[i], Py_NewRef(new[i]));
    if (new[11]) /* from now on task.py tells of forks */
        state.pid = getpid();
    Py_RETURN_NONE;
}

static PyObject *refresh_all(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    state.epoch++;
    Py_RETURN_NONE;
}

static PyObject *rearm(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    return PyLong_FromUnsignedLongLong(++state.armed);
}

static PyObject *after_fork(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    state.process++;
    state.pid = getpid();
    state.epoch++;
    state.sinks = state.comparing = 0;
    here.kernel = NULL; /* the kernel does not follow */
    forget_thread();
    Py_RETURN_NONE;
}

static PyObject *sinks(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    return PyLong_FromSsize_t(state.sinks);
}

static PyObject *comparing(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    return PyLong_FromSsize_t(state.comparing);
}

/* set_awake(awake), is_awake() */
static PyObject *set_awake(PyObject *Py_UNUSED(module), PyObject *arg)
{
    state.awake = PyObject_IsTrue(arg);
    Py_RETURN_NONE;
}

static PyObject *is_awake(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg)) { return PyBool_FromLong(state.awake); }

static PyObject *forget_bits(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    state.bits++;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"install", (PyCFunction)(void (*)(void))install, METH_VARARGS | METH_KEYWORDS, NULL},
    {"lock_byte", lock_byte, METH_VARARGS, NULL},
    {"is_locked", is_locked, METH_VARARGS, NULL},
    {"lift", lift, METH_O, NULL},
    {"identity", identity, METH_O, NULL},
    {"is_same", is_same, METH_VARARGS, NULL},
    {"close_same", close_same, METH_VARARGS, NULL},
    {"map_over", map_over, METH_VARARGS, NULL},
    {"current_task", current_task, METH_NOARGS, NULL},
    {"refresh", refresh_all, METH_NOARGS, NULL},
    {"rearm", rearm, METH_NOARGS, NULL},
    {"after_fork", after_fork, METH_NOARGS, NULL},
    {"sinks", sinks, METH_NOARGS, NULL},
    {"comparing", comparing, METH_NOARGS, NULL},
    {"get_unit", get_unit, METH_O, NULL},
    {"set_unit", set_unit, METH_VARARGS, NULL},
    {"find", find, METH_O, NULL},
    {"map_table", map_table, METH_VARARGS, NULL},
    {"unmap_table", unmap_table, METH_NOARGS, NULL},
    {"generation", generation, METH_NOARGS, NULL},
    {"insert", insert, METH_VARARGS, NULL},
    {"remove", remove_, METH_VARARGS, NULL},
    {"this_task", this_task_, METH_NOARGS, NULL},
    {"begin", begin_, METH_VARARGS, NULL},
    {"begin_section", begin_section, METH_VARARGS, NULL},
    {"set_awake", set_awake, METH_O, NULL},
    {"is_awake", is_awake, METH_NOARGS, NULL},
    {"forget_bits", forget_bits, METH_NOARGS, NULL},
    {"add", add, METH_VARARGS, NULL},
    {"tally", tally, METH_O, NULL},
    {"kernel_bind", kernel_bind, METH_O, NULL},
    {"kernel_unbind", kernel_unbind, METH_NOARGS, NULL},
    {"kernel_switch", kernel_switch, METH_NOARGS, NULL},
    PROBE_METHODS
    COMPILED_METHODS
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "pykcov._recorder", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__recorder(void)
{
    struct {
        const char *name;
        PyTypeObject *type;
    } types[] = {{"Task", &TaskType}, {"Sink", &SinkType}, {"Unit", &UnitType},
                 {"Inherited", &InheritedType}, {"remote", &RemoteType}, {"Quiet", &QuietType}, {"Around", &AroundType}, {"Lock", &LockType},
                 {"FirstOf", &FirstOfType}, {"Area", &AreaType}, {"Pool", &PoolType}, {"Session", &SessionType},
                 {"Section", &SectionType}, {"Places", &PlacesType}, {"Probe", &ProbeType}, {"Site", &SiteType}
                 PROBE_TYPES};
    PyObject *m = PyModule_Create(&module);
    if (!m)
        return NULL;
    state.task_var = PyContextVar_New("pykcov task", NULL);
    state.inherited_var = PyContextVar_New("pykcov inherited", Py_None);
    if (!state.task_var || !state.inherited_var || PyModule_AddObjectRef(m, "inherited_var", state.inherited_var) < 0)
        return NULL;
    state.extra = REQUEST_EXTRA(drop_unit);
    all_sites.extra = REQUEST_EXTRA(drop_sites);
    if (state.extra < 0 || all_sites.extra < 0) {
        PyErr_SetString(PyExc_ImportError, "the interpreter has no room for another code extra");
        return NULL;
    }
    if (PyType_Ready(&BoundType) < 0 || PyType_Ready(&SingleType) < 0 || PyType_Ready(&DoubleType) < 0 ||
        !(lock_fd_name = PyUnicode_InternFromString("lock_fd")) ||
        !(lock_identity_name = PyUnicode_InternFromString("lock_identity")) ||
        !(alive_name = PyUnicode_InternFromString("alive")) ||
        !(threading_name = PyUnicode_InternFromString("threading")) ||
        !(current_thread_name = PyUnicode_InternFromString("current_thread")) ||
        !(name_name = PyUnicode_InternFromString("name")) ||
        !(range_start = PyUnicode_InternFromString("start")) ||
        !(range_stop = PyUnicode_InternFromString("stop")) ||
        !(enum_members = PyUnicode_InternFromString("_member_map_")) ||
        !(get_attribute = PyUnicode_InternFromString("__getattribute__")))
        return NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (PyType_Ready(types[i].type) < 0 || PyModule_AddObjectRef(m, types[i].name, (PyObject *)types[i].type) < 0)
            return NULL;
    state.this_task = PyObject_GetAttrString(m, "this_task");
    return state.this_task ? m : NULL;
}
