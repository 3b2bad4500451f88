/* tally(words): how often each 64-bit word is there, {word: count} in order of the first occurrence. What a Trace
 * is read by: a Python object for each of its events, which a dict or a set would need, takes ten times as long. */

typedef struct {
    uint64_t word;
    uint64_t count; /* 0: free */
} TallyCell;

typedef struct {
    TallyCell *cells; /* open addressing, at most half full */
    uint64_t *order;
    size_t used, size;
    int shift; /* 64 - log2(size) */
} Tally;

static TallyCell *tally_cell(Tally *t, uint64_t word)
{
    size_t i = word * UINT64_C(0x9E3779B97F4A7C15) >> t->shift;
    while (t->cells[i].count && t->cells[i].word != word)
        i = (i + 1) & (t->size - 1);
    return &t->cells[i];
}

static int tally_grow(Tally *t)
{
    Tally old = *t;
    t->size = old.size ? 4 * old.size : 256;
    t->shift = old.size ? old.shift - 2 : 56;
    uint64_t *order = PyMem_Realloc(old.order, t->size / 2 * sizeof *order);
    if (order)
        t->order = order;
    t->cells = PyMem_Calloc(t->size, sizeof *t->cells);
    if (!order || !t->cells) {
        PyMem_Free(t->cells);
        t->cells = old.cells;
        return -1;
    }
    for (size_t i = 0; i < old.size; i++)
        if (old.cells[i].count)
            *tally_cell(t, old.cells[i].word) = old.cells[i];
    PyMem_Free(old.cells);
    return 0;
}

static int tally_add(Tally *t, const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        TallyCell *cell = tally_cell(t, words[i]);
        if (!cell->count) {
            if (2 * t->used == t->size) {
                if (tally_grow(t) < 0)
                    return -1;
                cell = tally_cell(t, words[i]);
            }
            cell->word = words[i];
            t->order[t->used++] = words[i];
        }
        cell->count++;
    }
    return 0;
}

static PyObject *tally(PyObject *Py_UNUSED(self), PyObject *words)
{
    Py_buffer view;
    if (PyObject_GetBuffer(words, &view, PyBUF_CONTIG_RO) < 0)
        return NULL;
    Tally t = {0};
    PyObject *counts = NULL;
    if (tally_grow(&t) < 0 || tally_add(&t, view.buf, (size_t)view.len / 8) < 0) {
        PyErr_NoMemory();
        goto done;
    }
    counts = PyDict_New();
    for (size_t i = 0; counts && i < t.used; i++) {
        PyObject *word = PyLong_FromUnsignedLongLong(t.order[i]);
        PyObject *count = PyLong_FromUnsignedLongLong(tally_cell(&t, t.order[i])->count);
        if (!word || !count || PyDict_SetItem(counts, word, count) < 0)
            Py_CLEAR(counts);
        Py_XDECREF(word);
        Py_XDECREF(count);
    }
done:
    PyMem_Free(t.cells);
    PyMem_Free(t.order);
    PyBuffer_Release(&view);
    return counts;
}
