/* Lock(space, where, what, patience): excludes threads of this process and other processes. In C because a signal handler
 * that raises must not come between taking it and knowing that it is taken. Reentrant: a handler or a finalizer
 * may run pykcov inside pykcov.
 *
 * `where` is a byte of space.lock_fd, on which the system keeps a lock; or a word of shared memory, for a lock that
 * is taken with each section: no system call, and processes that take different ones do not meet. The word has the byte
 * of lock_fd that its owner holds while it lives (space.alive), so that the system tells when it is nobody's any more.
 */
#include <time.h>

#include "_descriptors.h"

static PyObject *lock_fd_name, *lock_identity_name, *alive_name; /* attributes of a space: PyObject_GetAttrString() makes a name each time */

typedef struct {
    PyObject_HEAD
    PyObject *space, *what;
    long byte;
    Py_buffer word;  /* its `buf` is NULL if it is a byte */
    double patience; /* seconds */
    PyThread_type_lock mutex;
    unsigned long owner;
    Py_ssize_t depth;
} LockObject;

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kw))
{
    PyObject *space, *where, *what;
    double patience;
    if (!PyArg_ParseTuple(args, "OOUd:Lock", &space, &where, &what, &patience))
        return NULL;
    LockObject *l = (LockObject *)type->tp_alloc(type, 0);
    if (!l)
        return NULL;
    l->space = Py_NewRef(space);
    l->what = Py_NewRef(what);
    l->patience = patience;
    l->mutex = PyThread_allocate_lock();
    if (!l->mutex)
        PyErr_NoMemory();
    else if (PyLong_Check(where))
        l->byte = PyLong_AsLong(where);
    else if (PyObject_GetBuffer(where, &l->word, PyBUF_WRITABLE) == 0 && l->word.len < 8)
        PyErr_SetString(PyExc_ValueError, "not a word");
    if (PyErr_Occurred())
        Py_CLEAR(l);
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
    PyBuffer_Release(&l->word);
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

/* Returns whether somebody else has a byte of a file, or -1. */
static int is_held(int fd, long byte)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &range) < 0 ? -1 : range.l_type != F_UNLCK;
}

/* Returns a number that the lock's space has, -1 if it has none. */
static long number_of(const LockObject *l, PyObject *name)
{
    PyObject *number = l->space ? PyObject_GetAttr(l->space, name) : NULL;
    long value = number ? PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    PyErr_Clear();
    return value;
}

/* Returns the descriptor of the file with the bytes, -1 if this process has it no more: another file may have its number. */
static int lock_fd(const LockObject *l)
{
    const int fd = (int)number_of(l, lock_fd_name);
    PyObject *identity = fd < 0 ? NULL : PyObject_GetAttr(l->space, lock_identity_name);
    const int is_own =
        identity && PyBytes_Check(identity) && has_identity(fd, PyBytes_AS_STRING(identity), (size_t)PyBytes_GET_SIZE(identity));
    Py_XDECREF(identity);
    PyErr_Clear();
    return is_own ? fd : -1;
}

/* Takes the word of who does not live, and of nobody. Returns 0 or an errno. */
static int take_word(LockObject *l)
{
    uint64_t *word = l->word.buf, owner = 0;
    const long me = number_of(l, alive_name);
    if (me <= 0) /* this process has left */
        return EBADF;
    if (__atomic_compare_exchange_n(word, &owner, (uint64_t)me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return 0;
    if (owner >> 62 == 1) { /* else it is damage, and nobody's */
        const int held = is_held(lock_fd(l), (long)owner);
        if (held)
            return held < 0 ? errno : EAGAIN;
    }
    return __atomic_compare_exchange_n(word, &owner, (uint64_t)me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ? 0 : EAGAIN;
}

static int try_to_lock(LockObject *l)
{
    return l->word.buf ? take_word(l) : set_lock(lock_fd(l), l->byte, F_WRLCK);
}

static void give_back(LockObject *l)
{
    if (!l->word.buf) {
        set_lock(lock_fd(l), l->byte, F_UNLCK);
        return;
    }
    /* Not what is its parent's, in a child that was forked by a signal handler in here. */
    uint64_t me = (uint64_t)number_of(l, alive_name);
    __atomic_compare_exchange_n((uint64_t *)l->word.buf, &me, 0, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Waits for another process to give it back. */
static int wait_to_lock(LockObject *l)
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
        error = try_to_lock(l);
    } while ((error == EAGAIN || error == EACCES) && seconds() < end);
    return error;
}

/* Takes the mutex and the lock. Returns 0, an errno, or -1: another thread has it. */
static int lock_once(LockObject *l)
{
    if (!PyThread_acquire_lock(l->mutex, NOWAIT_LOCK)) {
        PyLockStatus got;
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(l->mutex, (PY_TIMEOUT_T)(l->patience * 1e6), 0);
        Py_END_ALLOW_THREADS
        if (got != PY_LOCK_ACQUIRED)
            return -1;
    }
    int error = try_to_lock(l);
    if (error == EAGAIN || error == EACCES)
        error = wait_to_lock(l);
    if (error)
        PyThread_release_lock(l->mutex);
    return error;
}

static PyObject *lock_enter(LockObject *l, PyObject *Py_UNUSED(arg))
{
    unsigned long me = PyThread_get_thread_ident();
    if (l->depth && l->owner == me) {
        l->depth++;
        Py_RETURN_NONE;
    }
    int error = lock_once(l);
    if (error == EBADF) { /* with nothing taken: what Python does here may raise */
        PyObject *done = PyObject_CallMethod(l->space, "regain", NULL);
        if (!done)
            return NULL;
        Py_DECREF(done);
        error = lock_once(l);
    }
    if (error == -1)
        return PyObject_CallMethod(l->space, "stuck", "Os", l->what, "another thread");
    if (error == EAGAIN || error == EACCES)
        return PyObject_CallMethod(l->space, "stuck", "Os", l->what, "another process");
    if (error)
        return PyObject_CallMethod(l->space, "unusable", "Oi", l->what, error);
    l->owner = me;
    l->depth = 1;
    Py_RETURN_NONE;
}

static PyObject *lock_exit(LockObject *l, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(n))
{
    if (l->depth && --l->depth == 0) {
        give_back(l);
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
    const int held = is_held(fd, byte);
    return held < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyBool_FromLong(held);
}
