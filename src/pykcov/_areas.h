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

/* begin_section(head, key, handle, task, name, after, began): other processes look at it, so the key comes last. */
static PyObject *begin_section(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer head;
    unsigned long long key, handle, task, after, began;
    const char *name;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "w*KKKz#KK", &head, &key, &handle, &task, &name, &length, &after, &began))
        return NULL;
    if (head.len >= HEAD_WORDS * 8) {
        uint64_t *about = head.buf;
        about[HEAD_LOST] = about[HEAD_TOLD] = about[HEAD_MOVED] = about[HEAD_MOVING] = 0;
        about[HEAD_HANDLE] = handle;
        about[HEAD_AFTER] = after;
        if (name) {
            char *to = (char *)&about[HEAD_THREAD];
            memset(to, 0, THREAD_NAME);
            memcpy(to, name, (size_t)(length < THREAD_NAME ? length : THREAD_NAME - 1));
            about[HEAD_TID] = (uint64_t)syscall(SYS_gettid);
            about[HEAD_TASK] = task;
            about[HEAD_BEGAN] = began ? began : now();
        }
        store(&about[HEAD_DEVICE], key);
    }
    PyBuffer_Release(&head);
    Py_RETURN_NONE;
}

/* An area that a device has: words, the words of its header, and section records. */
typedef struct {
    Py_buffer words, head, records;
} device_area_t;

static void device_area_release(device_area_t *area)
{
    PyBuffer_Release(&area->words);
    PyBuffer_Release(&area->head);
    PyBuffer_Release(&area->records);
}

/* Where the next section record goes, NULL if there is no room. */
static uint64_t *next_section(const device_area_t *to)
{
    const uint64_t number = load((uint64_t *)to->head.buf + HEAD_RECORDED);
    return number < (uint64_t)to->records.len / 8 / SECTION_WORDS
               ? (uint64_t *)to->records.buf + number * SECTION_WORDS
               : NULL;
}

/* Writes the section record of what is about to be moved. It counts when it is closed. Before the move: who is killed in
 * the middle leaves no words that are nobody's. */
static void open_section(const device_area_t *to, const uint64_t *about, uint64_t start)
{
    uint64_t *head = to->head.buf, *section = next_section(to);
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
static void close_section(const device_area_t *to)
{
    uint64_t *head = to->head.buf, *section = next_section(to);
    const uint64_t number = load(&head[HEAD_RECORDED]), count = load((uint64_t *)to->words.buf);
    if (!section || load(&head[HEAD_OPEN]) != number + 1)
        return;
    if (section[SECTION_START] < count && count <= (uint64_t)to->words.len / 8) {
        section[SECTION_END] = count;
        section[SECTION_ENDED] = now();
        store(&head[HEAD_RECORDED], number + 1);
    }
    store(&head[HEAD_OPEN], 0);
}

/* close_section(to, head, records of to) */
static PyObject *close_section_(PyObject *Py_UNUSED(module), PyObject *args)
{
    device_area_t to;
    if (!PyArg_ParseTuple(args, "w*w*w*", &to.words, &to.head, &to.records))
        return NULL;
    if (to.words.len >= 8 && to.head.len >= HEAD_WORDS * 8)
        close_section(&to);
    device_area_release(&to);
    Py_RETURN_NONE;
}

/* move(to, head, records of to, from, head of from, key[, operands of to, of from]) -> left: see _recorder.pyi. No section
 * record of `to` may be open.
 *
 * Who is killed in here leaves HEAD_MOVING, and the next one who moves from that area finds out how far it got:
 * the count of `to` is as it was before, or it is not. */
static PyObject *move(PyObject *Py_UNUSED(module), PyObject *args)
{
    device_area_t to;
    Py_buffer from, head, to_table = {0}, from_table = {0};
    unsigned long long key;
    if (!PyArg_ParseTuple(args, "w*w*w*y*w*K|w*y*", &to.words, &to.head, &to.records, &from, &head, &key, &to_table,
                          &from_table))
        return NULL;
    const uint64_t words = to_table.len ? RECORD_WORDS : 1;
    PyObject *result = NULL;
    uint64_t *count = to.words.buf, *dst, *src = from.buf, *about = head.buf;
    if (to.words.len < 8 || from.len < 8 || head.len < HEAD_WORDS * 8 || to.head.len < HEAD_WORDS * 8 ||
        (to_table.len && to_table.len < OPERANDS_HEAD) ||
        (from_table.len && from_table.len < OPERANDS_HEAD) || !to_table.len != !from_table.len) {
        PyErr_SetString(PyExc_ValueError, "an area is too small");
        goto out;
    }
    uint64_t capacity = ((uint64_t)to.words.len / 8 - 1) / words, used = load(count);
    uint64_t room = ((uint64_t)from.len / 8 - 1) / words;
    uint64_t have = load(src), moving = load(&about[HEAD_MOVING]);
    uint64_t pending = 0, moved = 0, start;
    if (load(&about[HEAD_DEVICE]) != key) /* an empty section ends without the lock: read its count first */
        goto done;
    if (moving) {
        if (used != moving - 1)
            store(&about[HEAD_MOVED], about[HEAD_MOVED_THEN]);
        store(&about[HEAD_MOVING], 0);
    }
    start = load(&about[HEAD_MOVED]);
    have = have < room ? have : room; /* a damaged count */
    pending = have > start ? have - start : 0;
    uint64_t space = used < capacity ? capacity - used : 0;
    moved = pending < space ? pending : space;
    dst = count + 1 + used * words;
    src += 1 + start * words;
    if (moved)
        open_section(&to, about, used);
    if (moved && to_table.len)
        moved = move_records(dst, src, moved, used, to_table.buf, (uint64_t)(to_table.len - OPERANDS_HEAD),
                             from_table.buf, (uint64_t)(from_table.len - OPERANDS_HEAD));
    else
        memcpy(dst, src, moved * 8);
    if (moved) {
        store(&about[HEAD_MOVED_THEN], start + moved);
        store(&about[HEAD_MOVING], used + 1);
        store(count, used + moved);
        store(&about[HEAD_MOVED], start + moved);
        store(&about[HEAD_MOVING], 0);
    }
    close_section(&to);
done:
    result = PyLong_FromUnsignedLongLong(pending - moved);
out:
    device_area_release(&to);
    PyBuffer_Release(&from);
    PyBuffer_Release(&head);
    PyBuffer_Release(&to_table);
    PyBuffer_Release(&from_table);
    return result;
}

/* tell(dropped, head, left): in C because a kill between these stores would count an event twice, or never. */
static PyObject *tell(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer dropped, head;
    unsigned long long left;
    if (!PyArg_ParseTuple(args, "w*w*K", &dropped, &head, &left))
        return NULL;
    if (dropped.len >= 8 && head.len >= HEAD_WORDS * 8) {
        uint64_t *about = head.buf, lost = load(&about[HEAD_LOST]), told = load(&about[HEAD_TOLD]);
        uint64_t moved = load(&about[HEAD_MOVED]);
        if (left || lost != told) {
            __atomic_fetch_add((uint64_t *)dropped.buf, lost - told + left, __ATOMIC_RELAXED);
            store(&about[HEAD_MOVED], moved + left);
            store(&about[HEAD_TOLD], lost);
        }
    }
    PyBuffer_Release(&dropped);
    PyBuffer_Release(&head);
    Py_RETURN_NONE;
}

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
