"""A small job server: it reads documents for its clients and says what is in them.

    front.py      the front: one thread per request
    scheduler.py  the asyncio part: splits a request into jobs and waits for all of them
    workers.py    the background threads, started before any request; they do the work
    documents.py  the work: standard-library parsers, written in Python
    job.py        what goes from one part to the next

All it knows of coverage: each part puts an annotation around its work,
`with pykcov.remote(job.handle)`, and the handle travels with the job. While nobody asks for that
handle, the annotation does nothing.
"""

from jobserver.front import JobServer

__all__ = ["JobServer"]
