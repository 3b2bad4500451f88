/* The handle table: handle -> (slot, sequence) of the device that enabled it.
 *
 * It lives in a file that all processes of a namespace map. Writers hold the registry's lock;
 * readers take none: they look at the version before and after (odd: a writer is at work).
 * The words may be damaged or hostile: nothing read here is used without a bound.
 *
 * Open addressing, linear probing, deletion by shifting back, so that a find costs the same
 * among 65,536 handles as among one as long as the table is at most half full (registry.py).
 */
#include <stdint.h>
#include <string.h>

/* Words of the registry's header that this file reads or writes; registry.py has the others. */
enum { HEADER_COUNT = 2, HEADER_VERSION = 3, HEADER_GENERATION = 4, HEADER_WORDS = 16 };

typedef struct {
    uint64_t handle; /* 0: free */
    uint64_t device; /* sequence << 16 | slot */
} entry_t;

typedef struct {
    uint64_t *header;
    entry_t *entries;
    uint64_t mask; /* number of entries - 1; a power of two less one */
    uint64_t generation;
} table_t;

static inline uint64_t load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

/* splitmix64's finalizer: handles are small numbers or have all their bits at the top. */
static inline uint64_t table_home(const table_t *t, uint64_t handle)
{
    handle ^= handle >> 30;
    handle *= 0xbf58476d1ce4e5b9u;
    handle ^= handle >> 27;
    handle *= 0x94d049bb133111ebu;
    return (handle ^ handle >> 31) & t->mask;
}

/* Returns the entry of the handle, or the free one where it would go; NULL if there is neither. */
static entry_t *table_probe(const table_t *t, uint64_t handle)
{
    uint64_t at = table_home(t, handle);
    for (uint64_t i = 0; i <= t->mask; i++) {
        entry_t *e = &t->entries[(at + i) & t->mask];
        uint64_t found = load(&e->handle);
        if (found == handle || found == 0)
            return e;
    }
    return NULL;
}

typedef enum { NOT_LISTENED, LISTENED, UNSETTLED } find_t;

/* UNSETTLED: another table is in force, or a writer died at work: ask registry.py. */
static find_t table_find(const table_t *t, uint64_t handle, uint64_t *device)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (load(&t->header[HEADER_COUNT]) == 0)
            return NOT_LISTENED;
        uint64_t version = load(&t->header[HEADER_VERSION]);
        if (load(&t->header[HEADER_GENERATION]) != t->generation)
            return UNSETTLED;
        if (version & 1)
            continue;
        entry_t *e = table_probe(t, handle);
        find_t result = NOT_LISTENED;
        if (e && load(&e->handle) == handle) {
            *device = load(&e->device);
            result = LISTENED;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (load(&t->header[HEADER_VERSION]) == version)
            return result;
    }
    return UNSETTLED;
}

/* The rest must be called with the registry's lock held and the version odd. */

static int table_insert(table_t *t, uint64_t handle, uint64_t device)
{
    entry_t *e = table_probe(t, handle);
    if (!e || e->handle == handle)
        return 0;
    store(&e->device, device);
    store(&e->handle, handle);
    return 1;
}

static int table_remove(table_t *t, uint64_t handle, uint64_t device)
{
    entry_t *e = table_probe(t, handle);
    if (!e || e->handle != handle || e->device != device)
        return 0;
    uint64_t hole = (uint64_t)(e - t->entries), next = hole;
    /* At most once around: a table without a free entry is damaged. */
    for (uint64_t i = 0; i < t->mask; i++) {
        next = (next + 1) & t->mask;
        entry_t *n = &t->entries[next];
        if (n->handle == 0)
            break;
        /* It may move into the hole if its home is not between the hole and where it is. */
        uint64_t home = table_home(t, n->handle);
        if (((next - home) & t->mask) >= ((next - hole) & t->mask)) {
            t->entries[hole] = *n;
            hole = next;
        }
    }
    memset(&t->entries[hole], 0, sizeof(entry_t));
    return 1;
}
