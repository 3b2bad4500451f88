/* One code unit of a code object, as the interpreter has it: an opcode and an argument, in that order in memory.
 *
 * Bound to the version: from 3.12 on, other tools' events replace opcodes, and what they replaced is kept elsewhere.
 */

typedef struct {
    uint8_t opcode, argument;
} unit_t;

static inline uint8_t *units_of(PyCodeObject *code) { return (uint8_t *)code->co_code_adaptive; }

static inline uint16_t make_unit(int opcode, uint32_t argument)
{
    unit_t unit = {(uint8_t)opcode, (uint8_t)argument};
    uint16_t value;
    memcpy(&value, &unit, 2);
    return value;
}

static inline void put_unit(uint8_t *at, uint16_t value) { __atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELAXED); }

/* Of a code object that has not run yet. */
static inline uint16_t unit_at(PyCodeObject *code, uint32_t i)
{
    uint16_t value;
    memcpy(&value, units_of(code) + 2 * i, 2);
    return value;
}

#ifdef LOAD_FAST__LOAD_CONST
/* Two instructions that the interpreter has made one would not see that the second is another now. */
static inline void part_unit(PyCodeObject *code, uint32_t i)
{
    uint8_t *before = units_of(code) + 2 * i - 2;
    if (i && before[0] == LOAD_FAST__LOAD_CONST)
        before[0] = LOAD_FAST;
}
#else
static inline void part_unit(PyCodeObject *Py_UNUSED(code), uint32_t Py_UNUSED(i)) {}
#endif

#if PY_VERSION_HEX < 0x030c0000

/* A site whose value nobody looks at, `skip` units behind its first: UNARY_INVERT; POP_TOP at its end become FOR_ITER,
 * for which the probe is an iterator that has ended. From 3.12 on FOR_ITER has events, and counts how often. */
#define SHORT_SITES

static inline void shorten(PyCodeObject *code, uint32_t i, uint32_t skip)
{
    uint8_t *last = units_of(code) + 2 * (i + skip);
    if (skip > 1 && last[-2] == UNARY_INVERT && last[0] == POP_TOP) {
        put_unit(last - 2, make_unit(FOR_ITER, 1));
        put_unit(last, make_unit(NOP, 0));
    }
}

static inline int is_instrumented(PyCodeObject *Py_UNUSED(code)) { return 0; }
static inline void forget_running(void) {}

static inline int set_unit_at(PyCodeObject *code, uint32_t i, uint16_t value)
{
    put_unit(units_of(code) + 2 * i, value);
    return 0;
}

#else

static inline void shorten(PyCodeObject *Py_UNUSED(code), uint32_t Py_UNUSED(i), uint32_t Py_UNUSED(skip)) {}

static inline int is_instrumented(PyCodeObject *code) { return code->_co_monitoring != NULL; }

/* Where all threads are, for as long as the GIL is kept: in a callback of an instruction's event, which goes on with
 * what it found there. */
static struct {
    struct {
        PyCodeObject *code; /* compared, never looked into */
        int offset;
    } *at;
    size_t n, room;
    int known;
} running;

static int find_running(void)
{
    running.n = 0;
    PyInterpreterState *interpreter = PyInterpreterState_Get();
    for (PyThreadState *ts = PyInterpreterState_ThreadHead(interpreter); ts; ts = PyThreadState_Next(ts)) {
        PyFrameObject *frame = PyThreadState_GetFrame(ts);
        while (frame) {
            if (running.n == running.room) {
                size_t room = running.room ? 2 * running.room : 64;
                void *at = PyMem_Realloc(running.at, room * sizeof *running.at);
                if (!at) {
                    Py_DECREF(frame);
                    return -1;
                }
                running.at = at;
                running.room = room;
            }
            PyCodeObject *code = PyFrame_GetCode(frame);
            running.at[running.n].code = code;
            running.at[running.n++].offset = PyFrame_GetLasti(frame);
            PyFrameObject *back = PyFrame_GetBack(frame);
            Py_DECREF(code);
            Py_DECREF(frame);
            frame = back;
        }
    }
    running.known = 1;
    return 0;
}

static inline void forget_running(void) { running.known = 0; }

/* Tells whether some thread is at an instruction. */
static int is_at(PyCodeObject *code, uint32_t i)
{
    if (!running.known && find_running() < 0)
        return 1;
    for (size_t at = 0; at < running.n; at++)
        if (running.at[at].code == code && running.at[at].offset == (int)(2 * i))
            return 1;
    return 0;
}

/* Under LINE and INSTRUCTION events of other tools the opcode is in their tables. */
static int set_instrumented(PyCodeObject *code, uint32_t i, uint16_t value)
{
    uint8_t *at = units_of(code) + 2 * i, *opcode = at;
    _PyCoMonitoringData *monitoring = code->_co_monitoring;
    if (!monitoring || is_at(code, i))
        return -1;
    if (*opcode == INSTRUMENTED_LINE && monitoring->lines)
        opcode = &monitoring->lines[i].original_opcode;
    if (*opcode == INSTRUMENTED_INSTRUCTION && monitoring->per_instruction_opcodes)
        opcode = &monitoring->per_instruction_opcodes[i];
    unit_t unit;
    memcpy(&unit, &value, 2);
    *opcode = unit.opcode;
    at[1] = unit.argument;
    return 0;
}

/* Returns 0, or -1 if it has to stay as it is for now. */
static inline int set_unit_at(PyCodeObject *code, uint32_t i, uint16_t value)
{
    uint8_t *at = units_of(code) + 2 * i;
    if (*at == INSTRUMENTED_LINE || *at == INSTRUMENTED_INSTRUCTION)
        return set_instrumented(code, i, value);
    put_unit(at, value);
    return 0;
}

#endif
