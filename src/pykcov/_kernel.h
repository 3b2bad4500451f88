/* What the kernel's kcov records for this thread, in the one order of the thread's tasks.
 *
 * The kernel writes PCs into an area that this thread has mapped (linux/threads.py enables it). Before each event of
 * Python, and where the task changes, what has come there since the last one goes to the task of that last
 * event: so a line is followed by what the kernel did for it. The thread itself is the only one that makes the kernel
 * write there, so that its count may be set back here.
 */

/* Gives what the kernel has recorded to the task of the last event. Returns as record() does. */
static int kernel_bring(kernel_t *k)
{
    uint64_t count = here.quiet ? k->noticed : load(k->words);
    if (!count || k->busy)
        return 0;
    TaskObject *task = k->task;
    int failed = 0, quiet = here.quiet;
    k->busy = 1;
    hush(); /* a sink's on_full() */
    count = count < k->capacity ? count : k->capacity;
    for (Py_ssize_t i = 0; task && task->process == state.process && i < task->nsinks; i++) {
        SinkObject *sink = task->sinks[i];
        if (!sink->kernel)
            continue;
        Py_INCREF(sink); /* on_full() may detach it */
        const uint64_t detached = sink->detached;
        for (uint64_t j = 1; j <= count && sink->detached == detached; j++)
            if (append(sink, k->words[j]) < 0)
                failed = -1;
        if (count == k->capacity && sink->detached == detached) /* the kernel does not say how many more there were */
            __atomic_fetch_add(sink->lost, 1, __ATOMIC_RELAXED);
        Py_DECREF(sink);
    }
    k->noticed = 0;
    store(k->words, 0);
    here.quiet = quiet;
    k->busy = 0;
    return failed;
}

static int kernel_event(TaskObject *task)
{
    kernel_t *k = here.kernel;
    int failed = load(k->words) ? kernel_bring(k) : 0;
    if (k->task != task)
        Py_XSETREF(k->task, (TaskObject *)Py_XNewRef((PyObject *)task));
    /* The event itself is lost with the exception that takes its place. */
    for (Py_ssize_t i = 0; failed && task && i < task->nsinks; i++)
        __atomic_fetch_add(task->sinks[i]->lost, 1, __ATOMIC_RELAXED);
    return failed;
}

/* For task_attach() and task_detach(): what came before is not for that sink, or still is. */
static int kernel_change(TaskObject *task)
{
    if (!here.kernel)
        return 0;
    int failed = kernel_bring(here.kernel);
    if (here.kernel && task)
        Py_XSETREF(here.kernel->task, (TaskObject *)Py_NewRef((PyObject *)task));
    return failed;
}

static PyObject *kernel_unbind(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    kernel_t *k = here.kernel;
    here.kernel = NULL;
    if (k) {
        PyBuffer_Release(&k->buffer);
        Py_XDECREF(k->task);
        PyMem_Free(k);
    }
    Py_RETURN_NONE;
}

static PyObject *kernel_bind(PyObject *module, PyObject *area)
{
    Py_XDECREF(kernel_unbind(module, NULL));
    kernel_t *k = PyMem_Calloc(1, sizeof *k);
    if (!k)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(area, &k->buffer, PyBUF_WRITABLE) < 0) {
        PyMem_Free(k);
        return NULL;
    }
    if (k->buffer.len < 16) {
        PyBuffer_Release(&k->buffer);
        PyMem_Free(k);
        PyErr_SetString(PyExc_ValueError, "the area holds no record");
        return NULL;
    }
    k->words = k->buffer.buf;
    k->capacity = (uint64_t)k->buffer.len / 8 - 1;
    store(k->words, 0);
    here.kernel = k;
    here.epoch = 0; /* see refresh() */
    Py_RETURN_NONE;
}

/* Where another task may run from here on, without an event that would tell. */
static PyObject *kernel_switch(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arg))
{
    TaskObject *task;
    if (!here.kernel || here.quiet)
        Py_RETURN_FALSE;
    if (current(&task) < 0)
        return NULL;
    return PyBool_FromLong(here.kernel != NULL);
}
