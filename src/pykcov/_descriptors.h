/* Descriptors that pykcov keeps: where they are, and whether they are still its own.
 *
 * A program that was started without standard output has the next file that anybody opens as that; and one that closes
 * descriptors that it does not own, as daemons do, has their numbers for files of its own afterwards. So what is kept is
 * moved up, remembered with its file, and told by that before it is used or closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HIGH = 100 }; /* The kernel's table of descriptors has 64 at first, 128 then: no more than it needs. */

typedef struct {
    uint64_t device, file;
} Identity;

static int has_identity(int fd, const void *identity, size_t length)
{
    struct stat found;
    Identity is;
    if (length != sizeof is || fd < 0 || fstat(fd, &found) < 0)
        return 0;
    is = (Identity){found.st_dev, found.st_ino};
    return memcmp(&is, identity, sizeof is) == 0;
}

/* lift(fd): moves a descriptor up, and returns its new number; closes it if there is none left for it. */
static PyObject *lift(PyObject *Py_UNUSED(module), PyObject *number)
{
    const int fd = (int)PyLong_AsLong(number);
    if (fd < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "not a descriptor");
        return NULL;
    }
    if (fd >= HIGH)
        return Py_NewRef(number);
    int high = -1;
    /* Lower if the process may not have as many. */
    for (int lowest = HIGH; high < 0 && lowest >= 3; lowest /= 2)
        high = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (high < 0 && fd >= 3)
        return Py_NewRef(number);
    const int error = errno;
    close(fd);
    errno = error;
    return high < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(high);
}

/* identity(fd): what is_same() compares. */
static PyObject *identity(PyObject *Py_UNUSED(module), PyObject *number)
{
    struct stat found;
    const int fd = (int)PyLong_AsLong(number);
    if (PyErr_Occurred())
        return NULL;
    if (fstat(fd, &found) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    const Identity is = {found.st_dev, found.st_ino};
    return PyBytes_FromStringAndSize((const char *)&is, sizeof is);
}

/* Takes (fd, identity). Returns the descriptor if it is open, and of the file that had this identity(), -1 if it is not;
 * -2 with an exception. */
static int same_fd(PyObject *args)
{
    int fd;
    const char *text;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(args, "iy#", &fd, &text, &length))
        return -2;
    return has_identity(fd, text, (size_t)length) ? fd : -1;
}

static PyObject *is_same(PyObject *Py_UNUSED(module), PyObject *args)
{
    const int fd = same_fd(args);
    return fd == -2 ? NULL : PyBool_FromLong(fd >= 0);
}

/* close_same(fd, identity): no other thread of Python's comes in between. */
static PyObject *close_same(PyObject *Py_UNUSED(module), PyObject *args)
{
    const int fd = same_fd(args);
    if (fd == -2)
        return NULL;
    if (fd >= 0)
        close(fd);
    Py_RETURN_NONE;
}

/* map_over(mapped, fd): puts a file in the place of anonymous memory of an mmap.mmap; that of a file keeps a descriptor. */
static PyObject *map_over(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer memory;
    int fd;
    if (!PyArg_ParseTuple(args, "w*i:map_over", &memory, &fd))
        return NULL;
    int error = 0;
    if (mmap(memory.buf, (size_t)memory.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        error = errno;
        /* The hole would be somebody else's memory when the object unmaps it. */
        mmap(memory.buf, (size_t)memory.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    }
    PyBuffer_Release(&memory);
    errno = error;
    return error ? PyErr_SetFromErrno(PyExc_OSError) : Py_NewRef(Py_None);
}
