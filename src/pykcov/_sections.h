/* Sections: how one begins, how it ends, and what of a session that needs. A task of asyncio has one of its own, and lives
 * for microseconds. What happens seldom is in remote.py, and called from here.
 */

/* Words of a device's slot in the registry; registry.py has them all. */
enum { WORD_SEQUENCE = 1, WORD_REMOTE = 3, WORD_DROPPED = 8, WORDS = 9 };

static PyObject *threading_name, *current_thread_name, *name_name; /* of "threading", "current_thread", "name" */

/* Calls a method for what it does. Returns 0, or -1 with its exception. */
static int call_method(void *object, const char *name, PyObject *arg)
{
    PyObject *done = PyObject_CallMethod(object, name, arg ? "(O)" : NULL, arg);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* ------------------------------------------------------------------ Pool: how much waits in area.py's */

enum { WAITING_ROOM = 1 << 22 }; /* words that may wait for use */

typedef struct {
    PyObject_HEAD
    Py_ssize_t waiting; /* words */
} PoolObject;

static PyTypeObject PoolType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Pool",
    .tp_basicsize = sizeof(PoolObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
};

/* ------------------------------------------------------------------ Session */

typedef struct {
    PyObject_HEAD
    uint64_t key;
    uint64_t bit, bits; /* the scope's bit, while `bits` is state.bits */
    Py_buffer slot;
    AreaObject *area;
    LockObject *lock;
    PoolObject *pool;
    PyObject *kind, *free; /* of the areas that its sections record into; a list of those that wait for use */
    PyObject *sections;    /* open ones: a dict, in order of their start */
    PyObject *drain;       /* drain(): makes room in the device's area; NULL */
    uint64_t listener;     /* the byte that the process holds while it lives that has enabled the device; 0: it is this one */
    double trusted;        /* until then it counts as alive, in s of time.monotonic() */
    char is_own, comparing, branch, kernel, exclusive, drained;
} SessionObject;

/* bind(key, slot, area, lock, pool, kind, drain, own, comparing, branch, kernel, exclusive, drained) */
static PyObject *session_bind(SessionObject *s, PyObject *args)
{
    PyObject *area, *lock, *pool, *kind, *drain;
    unsigned long long key;
    int own, comparing, branch, kernel, exclusive, drained;
    if (s->sections)
        return PyErr_Format(PyExc_ValueError, "it is bound");
    if (!PyArg_ParseTuple(args, "Kw*O!O!O!OOpppppp:bind", &key, &s->slot, &AreaType, &area, &LockType, &lock, &PoolType,
                          &pool, &kind, &drain, &own, &comparing, &branch, &kernel, &exclusive, &drained))
        return NULL;
    if (s->slot.len < WORDS * 8)
        return PyErr_Format(PyExc_ValueError, "not a slot");
    s->key = key;
    s->area = (AreaObject *)Py_NewRef(area);
    s->lock = (LockObject *)Py_NewRef(lock);
    s->pool = (PoolObject *)Py_NewRef(pool);
    s->kind = Py_NewRef(kind);
    s->drain = drain == Py_None ? NULL : Py_NewRef(drain);
    s->is_own = (char)own;
    s->comparing = (char)comparing;
    s->branch = (char)branch;
    s->kernel = (char)kernel;
    s->exclusive = (char)exclusive;
    s->drained = (char)drained;
    s->free = PyObject_CallMethod(pool, "list_of", "(O)", kind);
    s->sections = s->free && PyList_Check(s->free) ? PyDict_New() : NULL;
    return s->sections ? Py_NewRef(Py_None) : NULL;
}

static int session_traverse(SessionObject *s, visitproc visit, void *arg)
{
    Py_VISIT(s->lock);
    Py_VISIT(s->sections);
    Py_VISIT(s->drain);
    return 0;
}

static void session_free(SessionObject *s)
{
    PyObject_GC_UnTrack(s);
    PyBuffer_Release(&s->slot);
    Py_CLEAR(s->area);
    Py_CLEAR(s->lock);
    Py_CLEAR(s->pool);
    Py_CLEAR(s->kind);
    Py_CLEAR(s->free);
    Py_CLEAR(s->sections);
    Py_CLEAR(s->drain);
    Py_TYPE(s)->tp_free((PyObject *)s);
}

static inline int knows_bit(const SessionObject *s) { return s->bit && s->bits == state.bits; }

/* Asks for the scope's bit. Returns 0, or -1 with an exception. */
static int renew_bit(SessionObject *s)
{
    const uint64_t bits = state.bits; /* before: they may be others when Python has found it */
    PyObject *found = PyObject_CallMethod((PyObject *)s, "find_bit", NULL);
    const uint64_t bit = found ? PyLong_AsUnsignedLongLong(found) : 0;
    Py_XDECREF(found);
    if (PyErr_Occurred())
        return -1;
    s->bit = bit;
    s->bits = bits;
    return 0;
}

/* Tells whether the device has been disabled, or is not collecting remotely. */
static inline int is_over(const SessionObject *s)
{
    const uint64_t *slot = s->slot.buf;
    return load(&slot[WORD_SEQUENCE]) != s->key >> 16 || !load(&slot[WORD_REMOTE]);
}

/* Tells whether somebody listens, as far as that needs no system call, on which all processes of the namespace meet. */
static inline int is_trusted(const SessionObject *s)
{
    return !is_over(s) && (!s->listener || seconds() < s->trusted);
}

static PyObject *session_is_over(SessionObject *s, PyObject *Py_UNUSED(arg)) { return PyBool_FromLong(is_over(s)); }

/* Returns an empty area with a sink, NULL with an exception. */
static AreaObject *get_area(SessionObject *s)
{
    const Py_ssize_t n = PyList_GET_SIZE(s->free);
    if (!n)
        return (AreaObject *)PyObject_CallMethod((PyObject *)s->pool, "create", "(O)", s->kind);
    AreaObject *area = (AreaObject *)Py_NewRef(PyList_GET_ITEM(s->free, n - 1));
    if (PyList_SetSlice(s->free, n - 1, n, NULL) < 0) {
        Py_DECREF(area);
        return NULL;
    }
    s->pool->waiting -= area->mapped_words;
    return area;
}

/* Takes an area back. Returns 0, or -1 with an exception. */
static int put_area(SessionObject *s, AreaObject *area)
{
    if (s->pool->waiting + area->mapped_words > WAITING_ROOM)
        return call_method(area, "unlink", NULL);
    store(count_of_area(area), 0);
    s->pool->waiting += area->mapped_words;
    return PyList_Append(s->free, (PyObject *)area);
}

static PyObject *session_get_area(SessionObject *s, PyObject *Py_UNUSED(arg)) { return (PyObject *)get_area(s); }

static PyObject *session_put_area(SessionObject *s, PyObject *area)
{
    if (!PyObject_TypeCheck(area, &AreaType))
        return PyErr_Format(PyExc_TypeError, "not an area");
    return put_area(s, (AreaObject *)area) < 0 ? NULL : Py_NewRef(Py_None);
}

static int make_device_room(SessionObject *s)
{
    PyObject *done = PyObject_CallNoArgs(s->drain);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* See hand_over(). Must be called with the device's lock held. */
static int hand_over_locked(SessionObject *s, AreaObject *from, int ends)
{
    AreaObject *to = s->area;
    uint64_t *head = head_of(to), left = 0;
    /* KCOV_DISABLE could have been called between start and stop. */
    if (!is_over(s)) {
        if (load(&head[HEAD_OPEN])) /* of one who was killed */
            close_section(to);
        if (s->drain && load(&head[HEAD_RECORDED]) >= record_room(to) && make_device_room(s) < 0)
            return -1;
        while ((left = move(to, from, s->key, s->comparing)) && s->drain && load(count_of_area(to)))
            if (make_device_room(s) < 0)
                return -1;
        if (left && s->drained && !s->drain)
            return 0;
        if (left || load(&head_of(from)[HEAD_LOST]))
            tell((uint64_t *)s->slot.buf + WORD_DROPPED, head_of(from), left);
    } else if (call_method(s, "say_over", (PyObject *)from) < 0)
        return -1;
    if (ends)
        store(&head_of(from)[HEAD_DEVICE], 0);
    return 1;
}

/* Moves what a section's area has that is not in the device's yet (kcov_move_area), and returns whether that was all;
 * -1 with an exception. */
static int hand_over(SessionObject *s, AreaObject *from, int ends)
{
    AreaObject *areas[] = {s->area, from};
    for (int i = 0; s->comparing && i < 2; i++) {
        PyObject *operands = PyObject_GetAttrString((PyObject *)areas[i], "operands"); /* maps what is not mapped yet */
        Py_XDECREF(operands);
        if (!operands)
            return -1;
        if (!areas[i]->operands.len) {
            PyErr_SetString(PyExc_ValueError, "an area has no table of operands");
            return -1;
        }
    }
    PyObject *held = lock_enter(s->lock, NULL);
    if (!held)
        return -1;
    Py_DECREF(held);
    const int all = hand_over_locked(s, from, ends);
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    Py_DECREF(lock_exit(s->lock, NULL, 0));
    PyErr_Restore(type, error, traceback);
    return all;
}

static PyObject *session_take(SessionObject *s, PyObject *args)
{
    PyObject *area;
    int ends;
    if (!PyArg_ParseTuple(args, "O!p:take", &AreaType, &area, &ends))
        return NULL;
    const int all = hand_over(s, (AreaObject *)area, ends);
    return all < 0 ? NULL : PyBool_FromLong(all);
}

static PyObject *session_is_trusted(SessionObject *s, PyObject *Py_UNUSED(arg)) { return PyBool_FromLong(is_trusted(s)); }

static PyMethodDef session_methods[] = {
    {"bind", (PyCFunction)session_bind, METH_VARARGS, NULL},
    {"is_trusted", (PyCFunction)session_is_trusted, METH_NOARGS, NULL},
    {"is_over", (PyCFunction)session_is_over, METH_NOARGS, NULL},
    {"get_area", (PyCFunction)session_get_area, METH_NOARGS, NULL},
    {"put_area", (PyCFunction)session_put_area, METH_O, NULL},
    {"take", (PyCFunction)session_take, METH_VARARGS, NULL},
    {NULL},
};

static PyMemberDef session_members[] = {
    {"key", T_ULONGLONG, offsetof(SessionObject, key), READONLY, NULL},
    {"area", T_OBJECT_EX, offsetof(SessionObject, area), READONLY, NULL},
    {"lock", T_OBJECT_EX, offsetof(SessionObject, lock), READONLY, NULL},
    {"pool", T_OBJECT_EX, offsetof(SessionObject, pool), READONLY, NULL},
    {"listener", T_ULONGLONG, offsetof(SessionObject, listener), 0, NULL},
    {"trusted", T_DOUBLE, offsetof(SessionObject, trusted), 0, NULL},
    {"kind", T_OBJECT_EX, offsetof(SessionObject, kind), READONLY, NULL},
    {"sections", T_OBJECT_EX, offsetof(SessionObject, sections), READONLY, NULL},
    {"is_own", T_BOOL, offsetof(SessionObject, is_own), READONLY, NULL},
    {"branch", T_BOOL, offsetof(SessionObject, branch), READONLY, NULL},
    {"kernel", T_BOOL, offsetof(SessionObject, kernel), READONLY, NULL},
    {"exclusive", T_BOOL, offsetof(SessionObject, exclusive), READONLY, NULL},
    {NULL},
};

static PyTypeObject SessionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Session",
    .tp_basicsize = sizeof(SessionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)session_free,
    .tp_traverse = (traverseproc)session_traverse,
    .tp_methods = session_methods,
    .tp_members = session_members,
};

/* ------------------------------------------------------------------ Section */

typedef struct {
    PyObject_HEAD
    SessionObject *session;
    AreaObject *area;
    SinkObject *sink;
    TaskObject *task;
    PyObject *kernel; /* the linux.threads.Thread that collects for it, or None: see is_set() */
    uint64_t handle, turn, scope_bit, process;
    long depth;
    char implicit, has_parked, is_settled;
} SectionObject;

static PyTypeObject SectionType;

static int section_traverse(SectionObject *x, visitproc visit, void *arg)
{
    Py_VISIT(x->session);
    Py_VISIT(x->area);
    Py_VISIT(x->task);
    Py_VISIT(x->kernel);
    return 0;
}

static void section_free(SectionObject *x)
{
    PyObject_GC_UnTrack(x);
    Py_CLEAR(x->session);
    Py_CLEAR(x->area);
    Py_CLEAR(x->sink);
    Py_CLEAR(x->task);
    Py_CLEAR(x->kernel);
    Py_TYPE(x)->tp_free((PyObject *)x);
}

/* Returns the name of this thread in UTF-8. */
static PyObject *thread_name(void)
{
    PyObject *threading = PyImport_GetModule(threading_name);
    PyObject *current = threading ? PyObject_GetAttr(threading, current_thread_name) : NULL;
    Py_XDECREF(threading);
    if (!current) { /* a program that has not imported it has no other thread with a name */
        PyErr_Clear();
        return PyBytes_FromString("MainThread");
    }
    PyObject *thread = PyObject_CallNoArgs(current), *name = thread ? PyObject_GetAttr(thread, name_name) : NULL;
    PyObject *text = name ? PyObject_Str(name) : NULL;
    PyObject *bytes = text ? PyUnicode_AsEncodedString(text, "utf-8", "replace") : NULL;
    Py_DECREF(current);
    Py_XDECREF(thread);
    Py_XDECREF(name);
    Py_XDECREF(text);
    return bytes;
}

/* Says in the header of an empty area whose section's it is. Other processes look at it, so the key comes last. */
static int write_about(const SessionObject *s, AreaObject *area, uint64_t handle, uint64_t task, uint64_t after,
                       uint64_t began)
{
    PyObject *name = record_room(s->area) ? thread_name() : Py_NewRef(Py_None);
    if (!name)
        return -1;
    uint64_t *about = head_of(area);
    about[HEAD_LOST] = about[HEAD_TOLD] = about[HEAD_MOVED] = about[HEAD_MOVING] = 0;
    about[HEAD_HANDLE] = handle;
    about[HEAD_AFTER] = after;
    if (name != Py_None) {
        const Py_ssize_t length = PyBytes_GET_SIZE(name);
        char *to = (char *)&about[HEAD_THREAD];
        memset(to, 0, THREAD_NAME);
        memcpy(to, PyBytes_AS_STRING(name), (size_t)(length < THREAD_NAME ? length : THREAD_NAME - 1));
        about[HEAD_TID] = (uint64_t)syscall(SYS_gettid);
        about[HEAD_TASK] = task;
        about[HEAD_BEGAN] = began ? began : now();
    }
    Py_DECREF(name);
    store(&about[HEAD_DEVICE], s->key);
    return 0;
}

/* begin_section(session, area, handle, task, after, began): see write_about(). */
static PyObject *begin_section(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *session, *area;
    unsigned long long handle, task, after, began;
    if (!PyArg_ParseTuple(args, "O!O!KKKK", &SessionType, &session, &AreaType, &area, &handle, &task, &after, &began) ||
        write_about((SessionObject *)session, (AreaObject *)area, handle, task, after, began) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Takes a section from among those of its task and its session. */
static int forget(SectionObject *x)
{
    PyObject *of_task = x->task->sections;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(of_task); i++)
        if (PyList_GET_ITEM(of_task, i) == (PyObject *)x) {
            if (PyList_SetSlice(of_task, i, i + 1, NULL) < 0)
                return -1;
            break;
        }
    const int is_there = PyDict_Contains(x->session->sections, (PyObject *)x);
    if (is_there < 0 || (is_there && PyDict_DelItem(x->session->sections, (PyObject *)x) < 0))
        return -1;
    return let_go(x->task);
}

/* Hands over what was recorded last, and gives everything back. An exception of a signal handler's may break it off. */
static int give_back_all(SectionObject *x, AreaObject *area)
{
    SessionObject *s = x->session;
    uint64_t *about = head_of(area);
    if (x->is_settled)
        return 0;
    if (forget(x) < 0 || (s->exclusive && call_method(x, "take_turns", NULL) < 0) ||
        (is_set(x->kernel) && call_method(x->kernel, "leave", (PyObject *)x) < 0))
        return -1;
    int all = 1;
    if (load(count_of_area(area)) || load(&about[HEAD_LOST]) != load(&about[HEAD_TOLD]))
        all = x->has_parked ? 0 : hand_over(s, area, 1); /* in order: what came later must not come before what waits */
    if (all <= 0) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback)
            PyException_SetTraceback(error, traceback); /* it tells whose it is */
        PyObject *done = PyObject_CallMethod((PyObject *)x, "rescue", "OO", area, error ? error : Py_None);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        Py_XDECREF(done);
        if (!done)
            return -1;
    }
    if (x->is_settled) /* by another thread, while this one waited; or it is parked */
        return 0;
    store(&about[HEAD_DEVICE], 0);
    x->is_settled = 1;
    return put_area(s, area);
}

/* The same where an exception is on its way, which is the one that is told. */
static void give_back_quietly(SectionObject *x, AreaObject *area)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    if (give_back_all(x, area) < 0)
        PyErr_Clear();
    PyErr_Restore(type, error, traceback);
}

/* Ends a section, whoever does it. Not twice. Returns 0, or -1 with an exception that a signal handler has raised. */
static int finish(SectionObject *x)
{
    if (x->process != state.process)
        return 0;
    x->depth = 0; /* make_room() may be at work in another thread */
    int failed = 0;
    AreaObject *area = (AreaObject *)Py_NewRef(x->area);
    Py_INCREF(x);
    if (detach(x->task, x->sink, x->turn, &failed)) {
        failed = failed || give_back_all(x, area) < 0;
        if (failed)
            give_back_quietly(x, area);
    }
    Py_DECREF(area);
    Py_DECREF(x);
    return failed ? -1 : 0;
}

/* One remote_stop(); the last one ends the section. */
static int leave(SectionObject *x) { return --x->depth > 0 ? 0 : finish(x); }

static PyObject *section_finish(SectionObject *x, PyObject *Py_UNUSED(arg))
{
    return finish(x) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *section_leave(SectionObject *x, PyObject *Py_UNUSED(arg))
{
    return leave(x) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Ends a section whose beginning an exception has broken off. */
static void abandon(SectionObject *x)
{
    PyObject *type, *error, *traceback;
    int failed = 0;
    if (x->process != state.process || x->sink->turn != x->turn) /* another thread has ended it, and gives all back */
        return;
    PyErr_Fetch(&type, &error, &traceback);
    detach(x->task, x->sink, x->turn, &failed);
    if (failed)
        PyErr_Clear();
    PyErr_Restore(type, error, traceback);
    give_back_quietly(x, x->area);
}

/* Opens a section of a session in a task. Returns NULL with an exception, and nothing is left open. */
static PyObject *begin_in(SessionObject *s, uint64_t handle, TaskObject *t, int implicit)
{
    const uint64_t process = state.process; /* before: a signal handler may fork, and what it is in is the parent's */
    while (!knows_bit(s))
        if (renew_bit(s) < 0)
            return NULL;
    AreaObject *area = get_area(s);
    if (!area)
        return NULL;
    SectionObject *x = (SectionObject *)state.section->tp_alloc(state.section, 0);
    if (!x || write_about(s, area, handle, t->id, 0, 0) < 0) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (put_area(s, area) < 0)
            PyErr_Clear();
        PyErr_Restore(type, error, traceback);
        Py_DECREF(area);
        Py_XDECREF(x);
        return NULL;
    }
    x->session = (SessionObject *)Py_NewRef((PyObject *)s);
    x->area = area;
    x->sink = (SinkObject *)Py_NewRef(area->sink);
    x->task = (TaskObject *)Py_NewRef((PyObject *)t);
    x->handle = handle;
    x->turn = x->sink->turn;
    x->scope_bit = s->bit;
    x->process = process;
    x->depth = 1;
    x->implicit = (char)implicit;
    PyObject *room = NULL;
    if (PyList_Append(t->sections, (PyObject *)x) < 0 || PyDict_SetItem(s->sections, (PyObject *)x, Py_None) < 0 ||
        keep(t) < 0 || (s->kernel && call_method(x, "enter_kernel", NULL) < 0) ||
        (s->drained && !(room = PyObject_GetAttrString((PyObject *)x, "make_room"))) ||
        attach(t, x->sink, x->scope_bit, s->branch, room, s->kernel) < 0 ||
        /* With nothing in between: a thread that arms meanwhile would do it for itself, on 3.11. */
        ((s->comparing || !state.awake) && call_method(x, "arm", NULL) < 0) ||
        (s->exclusive && call_method(x, "take_turns", NULL) < 0)) {
        abandon(x);
        Py_CLEAR(x);
    }
    Py_XDECREF(room);
    return (PyObject *)x;
}

/* begin(session, handle, task, implicit) -> Section */
static PyObject *begin_(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *session, *task;
    unsigned long long handle;
    int implicit;
    if (!PyArg_ParseTuple(args, "O!KO!p:begin", &SessionType, &session, &handle, &TaskType, &task, &implicit))
        return NULL;
    return begin_in((SessionObject *)session, handle, (TaskObject *)task, implicit);
}

/* Opens a section, or goes deeper into the one that the task has of that session. Returns it, or None if nobody listens; NULL
 * with an exception that is not pykcov's. */
static PyObject *enter(PyObject *handle, PyObject *key, TaskObject *t, int implicit)
{
    SessionObject *s = state.sessions ? (SessionObject *)PyDict_GetItemWithError(state.sessions, key) : NULL;
    const int is_usual = s && t && is_trusted(s) && !s->kernel && !s->exclusive && !s->comparing && knows_bit(s) &&
                         state.awake && PyList_GET_SIZE(s->free) && PyLong_CheckExact(handle);
    if (!is_usual) {
        PyObject *args[] = {handle, key, t ? (PyObject *)t : Py_None, implicit ? Py_True : Py_False};
        return PyErr_Occurred() ? NULL : PyObject_Vectorcall(state.enter, args, 4, NULL);
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(t->sections); i++) {
        SectionObject *x = (SectionObject *)PyList_GET_ITEM(t->sections, i);
        if (x->session == s) {
            x->depth++;
            return Py_NewRef((PyObject *)x);
        }
    }
    Py_INCREF(s);
    Py_INCREF(t); /* a child that a signal handler forks has another one */
    PyObject *section = begin_in(s, PyLong_AsUnsignedLongLong(handle), t, implicit);
    Py_DECREF(t);
    Py_DECREF(s);
    return section;
}

static PyMethodDef section_methods[] = {
    {"finish", (PyCFunction)section_finish, METH_NOARGS, NULL},
    {"leave", (PyCFunction)section_leave, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef section_members[] = {
    {"session", T_OBJECT_EX, offsetof(SectionObject, session), READONLY, NULL},
    {"area", T_OBJECT_EX, offsetof(SectionObject, area), 0, NULL},
    {"sink", T_OBJECT_EX, offsetof(SectionObject, sink), READONLY, NULL},
    {"task", T_OBJECT_EX, offsetof(SectionObject, task), READONLY, NULL},
    {"kernel", T_OBJECT, offsetof(SectionObject, kernel), 0, NULL},
    {"handle", T_ULONGLONG, offsetof(SectionObject, handle), READONLY, NULL},
    {"turn", T_ULONGLONG, offsetof(SectionObject, turn), 0, NULL},
    {"scope_bit", T_ULONGLONG, offsetof(SectionObject, scope_bit), READONLY, NULL},
    {"depth", T_LONG, offsetof(SectionObject, depth), 0, NULL},
    {"implicit", T_BOOL, offsetof(SectionObject, implicit), READONLY, NULL},
    {"has_parked", T_BOOL, offsetof(SectionObject, has_parked), 0, NULL},
    {"is_settled", T_BOOL, offsetof(SectionObject, is_settled), 0, NULL},
    {NULL},
};

static PyTypeObject SectionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Section",
    .tp_basicsize = sizeof(SectionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_dealloc = (destructor)section_free,
    .tp_traverse = (traverseproc)section_traverse,
    .tp_methods = section_methods,
    .tp_members = section_members,
};

/* ------------------------------------------------------------------ a task's beginning and end */

/* Its context is gone, or the thread whose base context it was (kcov_task_exit). */
static PyObject *end_task(PyObject *self, PyObject *Py_UNUSED(owner))
{
    TaskObject *t = (TaskObject *)self;
    /* A forked child frees the other threads' contexts before its hooks run: their sections are the parent's. */
    if (getpid() != state.pid)
        Py_RETURN_NONE;
    if (PySet_Discard(state.owners, self) < 0)
        return NULL;
    SectionObject *x = PyList_GET_SIZE(t->sections) == 1 ? (SectionObject *)PyList_GET_ITEM(t->sections, 0) : NULL;
    const int has_devices = is_set(t->local) || is_set(t->remote);
    if (!x && !PyList_GET_SIZE(t->sections) && !has_devices)
        Py_RETURN_NONE;
    int failed;
    hush();
    /* The usual case: what it was created by had it followed, and this process has not left the namespace. */
    if (x && x->implicit && !has_devices && number_of(x->session->lock, alive_name) > 0)
        failed = finish(x);
    else
        failed = call_method(self, "end", NULL);
    unhush();
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef end_task_def = {"end_task", end_task, METH_O, NULL};

/* Makes it the task of the current context, until that dies. */
static int bind_task(TaskObject *t)
{
    PyObject *token = PyContextVar_Set(state.task_var, (PyObject *)t);
    PyObject *end = token ? PyCFunction_New(&end_task_def, (PyObject *)t) : NULL;
    PyObject *context = THIS_THREAD()->context;
    PyObject *owner = end ? PyWeakref_NewRef(context, end) : NULL;
    Py_XDECREF(token);
    Py_XDECREF(end);
    if (!owner)
        return -1;
    Py_XSETREF(t->owner, owner);
    t->context = context;
    state.epoch++;
    *recent_of(context) = (recent_t){0}; /* that of a parent process may be there */
    return 0;
}

/* Collects a new task for every collect() that caused it, from the outermost on: of exclusive ones the innermost is to
 * record. */
static int follow(TaskObject *t, PyObject *found)
{
    if (Py_TYPE(found) != &InheritedType)
        return 0;
    InheritedObject *i = (InheritedObject *)found;
    if (follow(t, i->outer) < 0)
        return -1;
    if (!i->live || !i->follow)
        return 0;
    PyObject *handle = PyLong_FromUnsignedLongLong(i->handle), *key = PyLong_FromUnsignedLongLong(i->device);
    PyObject *section = handle && key ? enter(handle, key, t, 1) : NULL;
    Py_XDECREF(handle);
    Py_XDECREF(key);
    Py_XDECREF(section);
    return section ? 0 : -1;
}

/* Returns the current task, making it known if this is the first that is heard of it; NULL with an exception. */
static TaskObject *this_task(void)
{
    TaskObject *t = own_task(THIS_THREAD());
    if (t)
        return (TaskObject *)Py_NewRef((PyObject *)t);
    t = (TaskObject *)PyObject_CallNoArgs((PyObject *)state.task);
    PyObject *found = NULL;
    if (!t || bind_task(t) < 0 || PyContextVar_Get(state.inherited_var, NULL, &found) < 0 || follow(t, found) < 0)
        Py_CLEAR(t);
    Py_XDECREF(found);
    return t;
}

static PyObject *this_task_(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg)) { return (PyObject *)this_task(); }
