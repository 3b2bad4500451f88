"""The background threads. They were here before the first request and know nothing of requests."""

import queue
import threading

import pykcov
from jobserver import documents
from jobserver.job import Job


class Workers:
    def __init__(self, count: int) -> None:
        self.queue: queue.Queue[Job | None] = queue.Queue()
        self.threads = [
            threading.Thread(target=self.work, name=f"worker-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def work(self) -> None:
        while (job := self.queue.get()) is not None:
            with pykcov.remote(job.handle):
                answer = documents.read(job.kind, job.text)
            # Only now, with the section ended: whoever gets the answer finds its lines recorded.
            job.answer.get_loop().call_soon_threadsafe(job.finish, answer)

    def close(self) -> None:
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join()
