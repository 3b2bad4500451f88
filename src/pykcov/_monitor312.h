/* The probe of CPython 3.12 and 3.13: C callbacks of sys.monitoring (probes/events.py sets the events).
 *
 * DISABLE works for the whole process and outlives a collection. It is returned only where no
 * collection of any scope will ever want the event.
 */

#define CALLBACK(name) static PyObject *name(PyObject *Py_UNUSED(m), PyObject *const *args, Py_ssize_t n)
#define DISABLE_HERE return Py_NewRef(state.disable)
#define TASK_OR_RETURN(task)                        \
    TaskObject *task;                               \
    if (here.quiet)                                 \
        Py_RETURN_NONE;                             \
    if (current(&task) < 0)          \
        return NULL;                                \
    if (!task || !task->nsinks) {                   \
        if (state.sinks == 0 && nobody() < 0)       \
            return NULL;                            \
        Py_RETURN_NONE;                             \
    }

static PyObject *nothing(void) { return PyErr_Occurred() ? NULL : Py_NewRef(Py_None); }

static PyObject *emit(TaskObject *task, uint64_t mask, uint64_t pc, int branch)
{
    if (pc && record(task, mask, pc, branch) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* What runs while pykcov works: its own code is never wanted, what that calls may be another time. */
static PyObject *run_quietly(PyObject *code)
{
    if (state.own && PyUnicode_Tailmatch(((PyCodeObject *)code)->co_filename, state.own, 0, PY_SSIZE_T_MAX, -1) == 1)
        DISABLE_HERE;
    return nothing();
}

CALLBACK(on_start)
{
    if (n && here.quiet)
        return run_quietly(args[0]);
    UnitObject *u = n ? discover(args[0]) : NULL;
    if (!u)
        return nothing();
    if (!u->mask)
        DISABLE_HERE;
    TASK_OR_RETURN(task);
    return emit(task, u->mask, u->entry, 0);
}

/* A generator or coroutine goes on that may have been suspended since before anybody collected.
 * DISABLE would outlive this collection, so only code out of scope gets it. */
CALLBACK(on_resume)
{
    if (n && here.quiet)
        return run_quietly(args[0]);
    UnitObject *u = n ? discover(args[0]) : NULL;
    if (!u)
        return nothing();
    if (!u->mask)
        DISABLE_HERE;
    Py_RETURN_NONE;
}

CALLBACK(on_throw) /* cannot be disabled */
{
    if (n && !here.quiet)
        discover(args[0]);
    return nothing();
}

CALLBACK(on_line)
{
    UnitObject *u = n > 1 ? unit_of(args[0]) : NULL;
    if (!u)
        Py_RETURN_NONE;
    uint64_t pc = line_pc(u, as_long(args[1]));
    if (!pc)
        DISABLE_HERE; /* no statement begins there, whoever collects */
    TASK_OR_RETURN(task);
    return emit(task, u->mask, pc, 0);
}

CALLBACK(on_instruction)
{
    UnitObject *u = n > 1 ? unit_of(args[0]) : NULL;
    if (!u)
        Py_RETURN_NONE;
    uint64_t pc = at(&u->starts, as_long(args[1]) / 2);
    if (!pc)
        DISABLE_HERE;
    TASK_OR_RETURN(task);
    return emit(task, u->mask, pc, 0);
}

CALLBACK(on_jump)
{
    UnitObject *u = n > 2 ? unit_of(args[0]) : NULL;
    if (!u)
        Py_RETURN_NONE;
    const jump_t *jump = jump_of(u, as_long(args[1]));
    if (!jump)
        DISABLE_HERE;
    TASK_OR_RETURN(task);
    int taken = as_long(args[2]) != (long)jump->fall;
    if (record_arms(task, u, jump, taken) < 0)
        return NULL;
    return emit(task, u->mask, taken ? jump->taken : jump->not_taken, 0);
}

CALLBACK(on_handler) /* cannot be disabled */
{
    UnitObject *u = n > 1 ? unit_of(args[0]) : NULL;
    uint64_t pc = u ? at(&u->handlers, as_long(args[1]) / 2) : 0;
    if (!pc)
        Py_RETURN_NONE;
    TASK_OR_RETURN(task);
    return emit(task, u->mask, pc, 1);
}

#define PROBE_METHODS                                                    \
    {"on_start", (PyCFunction)(void (*)(void))on_start, METH_FASTCALL, NULL}, \
    {"on_resume", (PyCFunction)(void (*)(void))on_resume, METH_FASTCALL, NULL}, \
    {"on_throw", (PyCFunction)(void (*)(void))on_throw, METH_FASTCALL, NULL}, \
    {"on_line", (PyCFunction)(void (*)(void))on_line, METH_FASTCALL, NULL}, \
    {"on_instruction", (PyCFunction)(void (*)(void))on_instruction, METH_FASTCALL, NULL}, \
    {"on_jump", (PyCFunction)(void (*)(void))on_jump, METH_FASTCALL, NULL}, \
    {"on_handler", (PyCFunction)(void (*)(void))on_handler, METH_FASTCALL, NULL},

#define PROBE_TYPES

static inline void want_thread(SinkObject *Py_UNUSED(sink)) {}
static inline void release_thread(SinkObject *Py_UNUSED(sink)) {}
static inline void forget_thread(void) {}
static inline void check_thread(void) {}
