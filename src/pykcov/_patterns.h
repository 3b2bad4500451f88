/* match: what a subject is compared with, found without running any of the program's code. */

/* A pattern is a tuple: what it is, then (VALUE, place, constant), (NAME, place, names), (ALL, patterns),
 * (SEQUENCE, patterns before the star, has a star, patterns behind), (MAPPING, ((place, key), ...), patterns). */
enum { VALUE, NAME, ALL, SEQUENCE, MAPPING };

/* Returns an attribute of a class, borrowed; NULL if it needs code: a descriptor's, or one of the metaclass. */
static PyObject *find_attribute(PyTypeObject *type, PyObject *name)
{
    PyTypeObject *meta = Py_TYPE(type);
    PyObject *first = _PyType_Lookup(meta, name); /* before the class's own, if it also sets */
    if ((first && Py_TYPE(first)->tp_descr_get && Py_TYPE(first)->tp_descr_set) ||
        _PyType_Lookup(meta, get_attribute) != _PyType_Lookup(&PyType_Type, get_attribute))
        return NULL;
    PyObject *found = _PyType_Lookup(type, name);
    if (found && !Py_TYPE(found)->tp_descr_get)
        return found;
    /* `name` and `value` are descriptors also where they are members. */
    PyObject *members = _PyType_Lookup(type, enum_members);
    PyObject *member = members && PyDict_CheckExact(members) ? PyDict_GetItem(members, name) : NULL;
    return member && Py_IS_TYPE(member, type) ? member : NULL;
}

/* Returns what a dotted name is, if that can be found without running code (borrowed); else NULL. */
static PyObject *find_name(PyObject *names)
{
    PyObject *globals = PyEval_GetGlobals();
    PyObject *found = globals ? PyDict_GetItem(globals, PyTuple_GET_ITEM(names, 0)) : NULL;
    for (Py_ssize_t i = 1; found && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyModule_CheckExact(found))
            found = PyDict_GetItem(PyModule_GetDict(found), name);
        else
            found = PyType_Check(found) ? find_attribute((PyTypeObject *)found, name) : NULL;
    }
    return found;
}

static int walk(const SiteObject *s, TaskObject *task, PyObject *pattern, PyObject *subject);

static int walk_all(const SiteObject *s, TaskObject *task, PyObject *patterns, PyObject *sequence, Py_ssize_t start)
{
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(patterns); i++) {
        Py_ssize_t at = start + i;
        if (at >= PySequence_Fast_GET_SIZE(sequence)) /* another thread has made a list shorter */
            break;
        PyObject *element = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, at));
        if (walk(s, task, PyTuple_GET_ITEM(patterns, i), element) < 0)
            failed = -1;
        Py_DECREF(element);
    }
    return failed;
}

static int walk_mapping(const SiteObject *s, TaskObject *task, PyObject *keys, PyObject *patterns, PyObject *subject)
{
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *entry = PyTuple_GET_ITEM(keys, i), *key = PyTuple_GET_ITEM(entry, 1);
        Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GET_ITEM(entry, 0));
        PyObject *value = NULL, *found = find_element(subject, key, &value);
        Py_XINCREF(found ? value : NULL); /* making room may let other threads run */
        if (record_found(s, task, place, CONST_LEFT, key, subject, found) < 0)
            failed = -1;
        if (!found)
            continue;
        if (walk(s, task, PyTuple_GET_ITEM(patterns, i), value) < 0)
            failed = -1;
        Py_DECREF(value);
    }
    return failed;
}

static int walk(const SiteObject *s, TaskObject *task, PyObject *pattern, PyObject *subject)
{
    PyObject *one = PyTuple_GET_ITEM(pattern, 1), *two = PyTuple_GET_ITEM(pattern, PyTuple_GET_SIZE(pattern) - 1);
    PyObject *value;
    int failed = 0;
    switch (PyLong_AsLong(PyTuple_GET_ITEM(pattern, 0))) {
    case VALUE:
        return record_objects(s, task, PyLong_AsSsize_t(one), CONST_RIGHT, subject, two);
    case NAME:
        value = find_name(two);
        return value ? record_objects(s, task, PyLong_AsSsize_t(one), CONST_NONE, subject, value) : 0;
    case ALL:
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(one); i++)
            if (walk(s, task, PyTuple_GET_ITEM(one, i), subject) < 0)
                failed = -1;
        return failed;
    case SEQUENCE:
        if (PyTuple_CheckExact(subject) || PyList_CheckExact(subject)) {
            Py_ssize_t n = PySequence_Fast_GET_SIZE(subject), before = PyTuple_GET_SIZE(one);
            Py_ssize_t behind = PyTuple_GET_SIZE(two);
            if (n < before + behind || (n > before + behind && PyTuple_GET_ITEM(pattern, 2) != Py_True))
                return 0; /* nothing is compared */
            failed = walk_all(s, task, one, subject, 0);
            if (walk_all(s, task, two, subject, n - behind) < 0)
                failed = -1;
        }
        return failed;
    default:
        return PyDict_CheckExact(subject) ? walk_mapping(s, task, one, two, subject) : 0;
    }
}

static PyObject *site_match(SiteObject *s, PyObject *subject)
{
    TaskObject *task;
    int wanted = is_wanted(s, &task);
    if (wanted < 0 || (wanted && walk(s, task, s->extra, subject) < 0))
        return NULL;
    return Py_NewRef(subject);
}
