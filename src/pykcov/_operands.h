/* Records of comparisons: what an operand is in 64-bit words, without running any of the program's code, and without
 * a new Python object. abi.py describes a record. */

enum { RECORD_WORDS = 4, OPERAND_LIMIT = 256 /* bytes */ };
enum { CONST_NONE, CONST_LEFT, CONST_RIGHT };
typedef enum { INT, UINT, BOOL, FLOAT, BYTES, STR, NONE, OTHER } kind_t;
/* The kernel has the bits below 8; the rest is 0 for plain integers. One of each for either argument. */
enum { BIT_CONST = 0, BIT_SIZE = 1, BIT_KIND = 8, BIT_IN_TABLE = 16, BIT_CUT = 18, BIT_LENGTH = 32 };

typedef struct {
    uint64_t word;
    const uint8_t *bytes; /* NULL: the word is all of it */
    uint16_t length;      /* bytes of what is recorded, of bytes and str */
    uint8_t kind, size;   /* a kind_t; log2 of bytes, at most 3 */
    uint8_t cut;          /* there was more of it */
    uint8_t copy[OPERAND_LIMIT];
} operand_t;

/* Of integers that an int64 holds: the smallest size that holds both, as signed numbers or as unsigned ones. */
static inline unsigned size_of_ints(int64_t a, int64_t b)
{
    uint64_t bits = (uint64_t)a | (uint64_t)b;
    if ((int64_t)bits < 0) /* a sign bit is one more */
        bits = ((uint64_t)(a ^ a >> 63) | (uint64_t)(b ^ b >> 63)) << 1;
    return bits >> 8 == 0 ? 0 : bits >> 16 == 0 ? 1 : bits >> 32 == 0 ? 2 : 3;
}

static inline unsigned size_of_length(size_t length) { return length > 4 ? 3 : length > 2 ? 2 : length > 1; }

/* At most 8 bytes, in a word. The loads overlap. */
static inline uint64_t pack(const uint8_t *bytes, size_t n)
{
    uint32_t low = 0, high = 0;
    if (n >= 4) {
        memcpy(&low, bytes, 4);
        memcpy(&high, bytes + n - 4, 4);
        return low | (uint64_t)high << 8 * (n - 4);
    }
    return n == 0 ? 0 : bytes[0] | (n > 1 ? (uint64_t)bytes[1] << 8 : 0) | (n > 2 ? (uint64_t)bytes[2] << 16 : 0);
}

/* Whether it is an int of one digit: nearly all are. */
static inline int is_small(PyObject *o, int64_t *value)
{
    if (!PyLong_CheckExact(o))
        return 0;
#if PY_VERSION_HEX >= 0x030c0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)o))
        return 0;
    *value = PyUnstable_Long_CompactValue((PyLongObject *)o);
#else
    Py_ssize_t size = Py_SIZE(o);
    if (size < -1 || size > 1)
        return 0;
    *value = size * (int64_t)((PyLongObject *)o)->ob_digit[0];
#endif
    return 1;
}

static void take_int(operand_t *o, PyObject *number)
{
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow);
    o->kind = overflow ? UINT : INT;
    o->size = overflow ? 3 : (uint8_t)size_of_ints(value, 0);
    o->word = overflow ? PyLong_AsUnsignedLongLongMask(number) : (uint64_t)value;
    if (!overflow)
        return;
#if PY_VERSION_HEX >= 0x030c0000
    const digit *digits = ((PyLongObject *)number)->long_value.ob_digit;
    size_t n = ((PyLongObject *)number)->long_value.lv_tag >> 3;
#else
    const digit *digits = ((PyLongObject *)number)->ob_digit;
    size_t n = (size_t)Py_ABS(Py_SIZE(number));
#endif
    _Static_assert(PyLong_SHIFT == 30, "64 bits are two digits and 4 bits");
    o->cut = overflow < 0 || n > 3 || (n == 3 && digits[2] >> 4);
}

static void take_bytes(operand_t *o, kind_t kind, const void *bytes, size_t length, int cut)
{
    o->kind = (uint8_t)kind;
    o->cut = cut || length > OPERAND_LIMIT;
    o->length = (uint16_t)(length < OPERAND_LIMIT ? length : OPERAND_LIMIT);
    o->size = (uint8_t)size_of_length(length);
    o->word = length <= 8 ? pack(bytes, length) : 0;
    o->bytes = length <= 8 ? NULL : bytes;
}

/* As UTF-8, which the string itself does not get to keep. Lone surrogates are three bytes each. */
static void take_text(operand_t *o, PyObject *text, Py_ssize_t start, Py_ssize_t end)
{
    if (PyUnicode_IS_ASCII(text)) {
        take_bytes(o, STR, (const uint8_t *)PyUnicode_DATA(text) + start, (size_t)(end - start), 0);
        return;
    }
    int width = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    size_t n = 0;
    for (; start < end; start++) {
        Py_UCS4 c = PyUnicode_READ(width, data, start);
        size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        if (n + more >= OPERAND_LIMIT)
            break;
        static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
        o->copy[n++] = (uint8_t)(lead[more] | c >> 6 * more);
        while (more--)
            o->copy[n++] = (uint8_t)(0x80 | (c >> 6 * more & 0x3f));
    }
    take_bytes(o, STR, o->copy, n, start < end);
}

static Py_ssize_t length_of(PyObject *text) /* of a str, bytes or bytearray */
{
    return PyUnicode_Check(text) ? PyUnicode_GET_LENGTH(text) : Py_SIZE(text);
}

/* A part of a str, bytes or bytearray. */
static void take_part(operand_t *o, PyObject *text, Py_ssize_t start, Py_ssize_t end)
{
    if (PyUnicode_Check(text))
        take_text(o, text, start, end);
    else if (PyBytes_Check(text))
        take_bytes(o, BYTES, PyBytes_AS_STRING(text) + start, (size_t)(end - start), 0);
    else {
        /* Another thread may change it while room is made. */
        size_t n = (size_t)(end - start), part = n < OPERAND_LIMIT ? n : OPERAND_LIMIT;
        memcpy(o->copy, PyByteArray_AS_STRING(text) + start, part);
        take_bytes(o, BYTES, o->copy, part, n > part);
    }
}

static int is_text(PyObject *object)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_Check(object))
        return PyUnicode_IS_READY(object);
#endif
    return PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object);
}

/* Subclasses are what their base class keeps: their own methods are the program's code. */
static void take(operand_t *o, PyObject *object)
{
    o->bytes = NULL;
    o->word = 0;
    o->length = o->size = o->cut = 0;
    if (PyBool_Check(object)) {
        o->kind = BOOL;
        o->word = object == Py_True;
    } else if (PyLong_Check(object))
        take_int(o, object);
    else if (is_text(object))
        take_part(o, object, 0, length_of(object));
    else if (PyFloat_Check(object)) {
        double value = PyFloat_AS_DOUBLE(object);
        memcpy(&o->word, &value, sizeof value);
        o->kind = FLOAT;
        o->size = 3;
    } else
        o->kind = object == Py_None ? NONE : OTHER;
}

/* ------------------------------------------------------------------ append */

static int append_comparison(SinkObject *sink, const uint64_t *record, const operand_t *one, const operand_t *two)
{
    uint64_t bytes = (one && one->bytes ? one->length : 0u) + (two && two->bytes ? two->length : 0u);
    uint64_t count = __atomic_load_n(sink->words, __ATOMIC_RELAXED);
    int failed = 0;
    if (!has_room(sink, count, bytes)) {
        if (!make_room(sink, bytes, &failed))
            return failed;
        count = __atomic_load_n(sink->words, __ATOMIC_RELAXED);
    }
    uint64_t *words = sink->words + 1 + RECORD_WORDS * count;
    memcpy(words, record, RECORD_WORDS * sizeof *record);
    if (bytes || !count) {
        operands_t *table = sink->operands;
        uint64_t used = operands_used(table, count, sink->operand_room);
        for (int i = 0; i < 2; i++) {
            const operand_t *o = i ? two : one;
            if (!o || !o->bytes)
                continue;
            memcpy(table->bytes + used, o->bytes, o->length);
            words[1 + i] = table->base + used;
            used += o->length;
        }
        store(&table->used, used);
    }
    store(sink->words, count + 1);
    return failed;
}

/* Returns 0, or -1 with a signal handler's exception; the comparison is recorded in either case. `one` and `two` are
 * NULL for integers. */
static int record_words(TaskObject *task, uint64_t mask, uint64_t type, uint64_t word1, uint64_t word2,
                               uint64_t pc, const operand_t *one, const operand_t *two)
{
    const uint64_t record[RECORD_WORDS] = {type, word1, word2, pc};
    int failed = 0;
    for (Py_ssize_t i = 0; i < task->ncomparing; i++)
        if ((task->comparing[i]->scope & mask) && append_comparison(task->comparing[i], record, one, two) < 0)
            failed = -1;
    return failed;
}

/* With a constant, that comes first, as in the kernel. */
static int record_operands(TaskObject *task, uint64_t mask, uint64_t pc, int constant, const operand_t *left,
                           const operand_t *right)
{
    if (left->kind == OTHER && right->kind == OTHER)
        return 0;
    const operand_t *one = constant == CONST_RIGHT ? right : left, *two = one == left ? right : left;
    uint64_t size = one->size > two->size ? one->size : two->size;
    if (one->kind == INT && two->kind == INT)
        size = size_of_ints((int64_t)one->word, (int64_t)two->word);
    uint64_t type = (uint64_t)(constant != CONST_NONE) << BIT_CONST | size << BIT_SIZE;
    for (int i = 0; i < 2; i++) {
        const operand_t *o = i ? two : one;
        type |= (uint64_t)o->kind << (BIT_KIND + 4 * i) | (uint64_t)(o->bytes != NULL) << (BIT_IN_TABLE + i) |
                (uint64_t)o->cut << (BIT_CUT + i) | (uint64_t)o->length << (BIT_LENGTH + 16 * i);
    }
    return record_words(task, mask, type, one->word, two->word, pc, one, two);
}

/* ------------------------------------------------------------------ move */

/* Copies records to where there is room for that many, and their operands as far as there is room for those. Returns
 * how many it were. Nothing that it reads can be relied on. */
static uint64_t move_records(uint64_t *dst, const uint64_t *src, uint64_t n, uint64_t count, operands_t *to,
                             uint64_t room, const operands_t *from, uint64_t size)
{
    uint64_t used = operands_used(to, count, room), i;
    if (!load(&from->used)) {
        memcpy(dst, src, n * RECORD_WORDS * sizeof *src);
        i = n;
        goto full;
    }
    for (i = 0; i < n; i++, src += RECORD_WORDS, dst += RECORD_WORDS) {
        uint64_t type = src[0], after = used;
        memcpy(dst, src, RECORD_WORDS * sizeof *src);
        for (int arg = 0; arg < 2; arg++) {
            if (!(type >> (BIT_IN_TABLE + arg) & 1))
                continue;
            uint64_t length = type >> (BIT_LENGTH + 16 * arg) & 0xffff, at = src[1 + arg] - from->base;
            length = length < OPERAND_LIMIT ? length : OPERAND_LIMIT;
            if (at > size || length > size - at)
                length = 0;
            if (length > room - after)
                goto full;
            memcpy(to->bytes + after, from->bytes + at, length);
            dst[1 + arg] = to->base + after;
            after += length;
        }
        used = after;
    }
full:
    /* Before the count: who is killed in between leaves bytes that are no record's. */
    store(&to->used, used);
    return i;
}
