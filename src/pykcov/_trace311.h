/* The probe of CPython 3.11: a C trace function, per thread.
 *
 * A trace function that is there already (coverage.py's, a debugger's) is kept and called first. The
 * thread is traced as long as sinks are attached in it (`wanted`), and it stops by itself at its next
 * event after another thread detached the last one.
 *
 * With branch=True frames are traced by instruction: the arm that a branch took is seen at the
 * instruction that comes next in the same frame, so the branch waits for it on a small stack.
 */
#define PENDING 32

typedef struct {
    PyFrameObject *frame; /* compared, never looked into */
    const jump_t *jump;
    PyObject *code;       /* compared as well: a frame's address is used again */
} pending_t;

typedef struct {
    PyObject_HEAD
    thread_t *thread;
    Py_tracefunc chained;  /* who was there before, or NULL */
    PyObject *chained_arg;
    int npending;
    pending_t pending[PENDING];
} TracerObject;

/* Whether threads that collect are traced: not while all code that they want has compiled probes. */
static int tracing;

static PyTypeObject TracerType;
static int trace(PyObject *self, PyFrameObject *frame, int what, PyObject *arg);

static void tracer_free(TracerObject *t)
{
    Py_XDECREF(t->chained_arg);
    if (t->thread && --t->thread->references == 0)
        PyMem_Free(t->thread);
    Py_TYPE(t)->tp_free((PyObject *)t);
}

/* sys.settrace(sys.gettrace()) by somebody else must not lose us: it calls this as a trace function. */
static PyObject *tracer_call(PyObject *self, PyObject *args, PyObject *Py_UNUSED(kw))
{
    (void)args;
    PyThreadState *ts = THIS_THREAD();
    if (ts->c_tracefunc != trace)
        PyEval_SetTrace(trace, self);
    Py_RETURN_NONE;
}

static PyTypeObject TracerType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Tracer",
    .tp_basicsize = sizeof(TracerObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)tracer_free,
    .tp_call = tracer_call,
};

/* Puts our trace function in front of whatever is there. */
static void trace_this_thread(thread_t *thread)
{
    PyThreadState *ts = THIS_THREAD();
    if (ts->c_tracefunc == trace)
        return;
    TracerObject *t = PyObject_New(TracerObject, &TracerType);
    if (!t) {
        PyErr_Clear();
        return;
    }
    t->thread = thread;
    thread->references++;
    t->chained = ts->c_tracefunc;
    t->chained_arg = Py_XNewRef(ts->c_traceobj);
    t->npending = 0;
    PyEval_SetTrace(trace, (PyObject *)t);
    Py_DECREF(t);
}

/* Gives the thread back to who was there before. */
static void leave_this_thread(void)
{
    PyThreadState *ts = THIS_THREAD();
    if (ts->c_tracefunc != trace)
        return;
    TracerObject *t = (TracerObject *)Py_NewRef(ts->c_traceobj);
    PyEval_SetTrace(t->chained, t->chained_arg);
    Py_DECREF(t);
}

static void want_thread(SinkObject *sink)
{
    if (!here.traced) {
        here.traced = PyMem_Calloc(1, sizeof(thread_t));
        if (!here.traced)
            return;
        here.traced->references = 1; /* this thread's; not given back when it ends: 16 bytes */
    }
    sink->thread = here.traced;
    sink->thread->references++;
    sink->thread->wanted++;
    if (tracing)
        trace_this_thread(here.traced);
}

/* Traces the current thread if it collects and that has begun to need it. */
static void check_thread(void)
{
    if (tracing && here.traced && here.traced->wanted)
        trace_this_thread(here.traced);
}

/* set_tracing(on): threads that collect find out when they next look for their task. */
static PyObject *set_tracing(PyObject *Py_UNUSED(module), PyObject *arg)
{
    tracing = PyObject_IsTrue(arg);
    state.epoch++;
    check_thread();
    Py_RETURN_NONE;
}

static void release_thread(SinkObject *sink)
{
    thread_t *thread = sink->thread;
    if (!thread)
        return;
    sink->thread = NULL;
    if (--thread->wanted == 0 && thread == here.traced)
        leave_this_thread();
    if (--thread->references == 0)
        PyMem_Free(thread);
}

/* In a forked child: what is attached is the parent's. */
static void forget_thread(void)
{
    here.traced = NULL;
    leave_this_thread();
}

/* Calls who was there before us. Returns -1 if that raised. */
static int call_chained(TracerObject *t, PyFrameObject *frame, int what, PyObject *arg)
{
    PyThreadState *ts = THIS_THREAD();
    int failed = t->chained(t->chained_arg, frame, what, arg);
    if (ts->c_tracefunc == trace)
        return failed; /* still, or again: it called sys.settrace() */
    /* It took itself off (as Python's does when it raises) or put another one in. Stay in front. */
    t->chained = ts->c_tracefunc;
    Py_XSETREF(t->chained_arg, Py_XNewRef(ts->c_traceobj));
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyEval_SetTrace(trace, (PyObject *)t);
    PyErr_Restore(type, value, traceback);
    return failed;
}

/* Records what the branch before decided, at whatever comes next in its frame. */
static int settle_branch(TracerObject *t, TaskObject *task, UnitObject *u, PyObject *code, PyFrameObject *frame, int offset)
{
    while (t->npending) {
        pending_t *p = &t->pending[t->npending - 1];
        if (p->frame != frame || p->code != code)
            break;
        t->npending--;
        /* Neither: what it tested raised, and this is a handler. */
        if (!at(&u->handlers, offset / 2) && record_arms(task, u, p->jump, (uint32_t)offset != p->jump->fall) < 0)
            return -1;
    }
    return 0;
}

static int trace_opcode(TracerObject *t, TaskObject *task, UnitObject *u, PyObject *code, PyFrameObject *frame)
{
    int offset = PyFrame_GetLasti(frame);
    if (settle_branch(t, task, u, code, frame, offset) < 0)
        return -1;
    uint64_t handler = at(&u->handlers, offset / 2);
    if (handler && record(task, u->mask, handler, 1) < 0)
        return -1;
    const jump_t *jump = jump_of(u, offset);
    if (jump && t->npending < PENDING)
        t->pending[t->npending++] = (pending_t){frame, jump, code};
    return 0;
}

static int trace_event(TracerObject *t, PyObject *code, PyFrameObject *frame, int what)
{
    TaskObject *task;
    if (what == PyTrace_EXCEPTION || what > PyTrace_OPCODE || here.quiet)
        return 0;
    if (what == PyTrace_RETURN) {
        while (t->npending && t->pending[t->npending - 1].frame == frame)
            t->npending--;
        return 0;
    }
    if (current(&task) < 0)
        return -1;
    if (!task || !task->nsinks)
        return 0;
    UnitObject *u = what == PyTrace_OPCODE ? unit_of(code) : discover(code);
    if (!u)
        return PyErr_Occurred() ? -1 : 0;
    if (!u->mask)
        return 0;
    switch (what) {
    case PyTrace_CALL:
        if (u->branch && PyObject_SetAttrString((PyObject *)frame, "f_trace_opcodes", Py_True) < 0)
            return -1;
        /* A generator that goes on is called too: only the first instruction is an entry. */
        if (at(&u->starts, PyFrame_GetLasti(frame) / 2))
            return record(task, u->mask, u->entry, 0);
        return 0;
    case PyTrace_LINE: {
        if (t->npending && settle_branch(t, task, u, code, frame, PyFrame_GetLasti(frame)) < 0)
            return -1;
        uint64_t pc = line_pc(u, PyFrame_GetLineNumber(frame));
        return pc ? record(task, u->mask, pc, 0) : 0;
    }
    case PyTrace_OPCODE:
        return trace_opcode(t, task, u, code, frame);
    }
    return 0;
}

static int trace(PyObject *self, PyFrameObject *frame, int what, PyObject *arg)
{
    TracerObject *t = (TracerObject *)Py_NewRef(self);
    int failed = t->chained ? call_chained(t, frame, what, arg) : 0;
    if (!failed && t->thread->wanted == 0) {
        leave_this_thread();
    } else if (!failed) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        failed = trace_event(t, (PyObject *)code, frame, what);
        Py_DECREF(code);
    }
    Py_DECREF(t);
    return failed;
}

/* The program's sys.settrace and sys.gettrace; `original` are the interpreter's. In C: what it traces would see them. */

static PyObject *program_settrace(PyObject *original, PyObject *function)
{
    PyObject *done = PyObject_CallOneArg(original, function);
    if (done)
        check_thread(); /* ours goes in front again */
    return done;
}

static PyObject *program_gettrace(PyObject *original, PyObject *Py_UNUSED(arg))
{
    PyThreadState *ts = THIS_THREAD();
    if (ts->c_tracefunc != trace)
        return PyObject_CallNoArgs(original);
    PyObject *chained = ((TracerObject *)ts->c_traceobj)->chained_arg;
    return Py_NewRef(chained ? chained : Py_None);
}

static PyMethodDef program_methods[] = {
    {"settrace", program_settrace, METH_O, "Set the function that traces this thread, behind pykcov's."},
    {"gettrace", program_gettrace, METH_NOARGS, "Return the function that traces this thread, not pykcov's."},
};

/* in_front(settrace, gettrace) -> the two that take their places */
static PyObject *in_front(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *settrace, *gettrace;
    if (!PyArg_ParseTuple(args, "OO", &settrace, &gettrace))
        return NULL;
    return Py_BuildValue("NN", PyCFunction_New(&program_methods[0], settrace),
                         PyCFunction_New(&program_methods[1], gettrace));
}

/* settle(): trace this thread if it is wanted. */
static PyObject *settle(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    check_thread();
    Py_RETURN_NONE;
}

#define PROBE_METHODS                      \
    {"in_front", in_front, METH_VARARGS, NULL}, \
    {"set_tracing", set_tracing, METH_O, NULL}, \
    {"settle", settle, METH_NOARGS, NULL},
#define PROBE_TYPES , {"Tracer", &TracerType}
