/* Lock(space, byte, what, patience): excludes threads of this process and, by a lock of the system on a byte of
 * space.lock_fd, other processes. In C because a signal handler that raises must not come between taking
 * it and knowing that it is taken. Reentrant: a handler or a finalizer may run pykcov inside pykcov. */
#include <errno.h>
#include <fcntl.h>
#include <time.h>

typedef struct {
    PyObject_HEAD
    PyObject *space, *what;
    long byte;
    double patience; /* seconds */
    PyThread_type_lock mutex;
    unsigned long owner;
    Py_ssize_t depth;
} LockObject;

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    PyObject *space, *what;
    long byte;
    double patience;
    if (!PyArg_ParseTuple(args, "OlUd:Lock", &space, &byte, &what, &patience))
        return NULL;
    LockObject *l = (LockObject *)type->tp_alloc(type, 0);
    if (!l)
        return NULL;
    l->space = Py_NewRef(space);
    l->what = Py_NewRef(what);
    l->byte = byte;
    l->patience = patience;
    l->mutex = PyThread_allocate_lock();
    if (!l->mutex) {
        Py_DECREF(l);
        return PyErr_NoMemory();
    }
    return (PyObject *)l;
}

static int lock_traverse(LockObject *l, visitproc visit, void *arg)
{
    Py_VISIT(l->space);
    return 0;
}

static int lock_clear(LockObject *l)
{
    Py_CLEAR(l->space);
    return 0;
}

static void lock_free(LockObject *l)
{
    PyObject_GC_UnTrack(l);
    lock_clear(l);
    Py_CLEAR(l->what);
    /* Not freed while it is held: its holder would release memory that is another's. */
    if (l->mutex && !l->depth)
        PyThread_free_lock(l->mutex);
    Py_TYPE(l)->tp_free((PyObject *)l);
}

/* Takes or gives back a byte of a file. Returns 0 or an errno. */
static int set_lock(int fd, long byte, short kind)
{
    struct flock range = {.l_type = kind, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &range) < 0 ? errno : 0;
}

static int set_byte(LockObject *l, short kind)
{
    static PyObject *name; /* PyObject_GetAttrString() makes one each time */
    if (!name && !(name = PyUnicode_InternFromString("lock_fd")))
        PyErr_Clear();
    PyObject *number = l->space && name ? PyObject_GetAttr(l->space, name) : NULL;
    int fd = number ? (int)PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    PyErr_Clear();
    return set_lock(fd, l->byte, kind);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Waits for another process to give the byte back. */
static int wait_for_byte(LockObject *l)
{
    double end = seconds() + l->patience;
    struct timespec pause = {0, 50000};
    int error;
    do {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
        if (pause.tv_nsec < 2000000)
            pause.tv_nsec *= 2;
        error = set_byte(l, F_WRLCK);
    } while ((error == EAGAIN || error == EACCES) && seconds() < end);
    return error;
}

static PyObject *lock_enter(LockObject *l, PyObject *Py_UNUSED(arg))
{
    unsigned long me = PyThread_get_thread_ident();
    if (l->depth && l->owner == me) {
        l->depth++;
        Py_RETURN_NONE;
    }
    if (!PyThread_acquire_lock(l->mutex, NOWAIT_LOCK)) {
        PyLockStatus got;
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(l->mutex, (PY_TIMEOUT_T)(l->patience * 1e6), 0);
        Py_END_ALLOW_THREADS
        if (got != PY_LOCK_ACQUIRED)
            return PyObject_CallMethod(l->space, "stuck", "Os", l->what, "another thread");
    }
    int error = set_byte(l, F_WRLCK);
    if (error == EAGAIN || error == EACCES)
        error = wait_for_byte(l);
    if (error) {
        PyThread_release_lock(l->mutex);
        if (error == EAGAIN || error == EACCES)
            return PyObject_CallMethod(l->space, "stuck", "Os", l->what, "another process");
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    l->owner = me;
    l->depth = 1;
    Py_RETURN_NONE;
}

static PyObject *lock_exit(LockObject *l, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    if (l->depth && --l->depth == 0) {
        set_byte(l, F_UNLCK);
        l->owner = 0;
        PyThread_release_lock(l->mutex);
    }
    Py_RETURN_NONE;
}

static PyMethodDef lock_methods[] = {
    {"__enter__", (PyCFunction)lock_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, NULL},
    {NULL},
};

static PyTypeObject LockType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "pykcov._recorder.Lock",
    .tp_basicsize = sizeof(LockObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = lock_new,
    .tp_dealloc = (destructor)lock_free,
    .tp_traverse = (traverseproc)lock_traverse,
    .tp_clear = (inquiry)lock_clear,
    .tp_methods = lock_methods,
};

/* lock_byte(fd, byte, shared): takes a byte of a file for as long as the file is open, or raises BlockingIOError. */
static PyObject *lock_byte(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, shared;
    long byte;
    if (!PyArg_ParseTuple(args, "ilp:lock_byte", &fd, &byte, &shared))
        return NULL;
    errno = set_lock(fd, byte, shared ? F_RDLCK : F_WRLCK);
    return errno ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}

/* is_locked(fd, byte): whether somebody else has a byte of a file. */
static PyObject *is_locked(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    long byte;
    if (!PyArg_ParseTuple(args, "il:is_locked", &fd, &byte))
        return NULL;
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &range) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyBool_FromLong(range.l_type != F_UNLCK);
}
