"""The asyncio part: many requests interleave on its one thread, each with its jobs."""

import asyncio
import threading
from typing import Any

import pykcov
from jobserver.job import Job
from jobserver.workers import Workers


class Scheduler:
    """Gives the jobs of all requests to the workers, a few of each kind at a time."""

    def __init__(self, workers: Workers, kinds: list[str], at_a_time: int) -> None:
        self.workers = workers
        self.slots = {kind: asyncio.Semaphore(at_a_time) for kind in kinds}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="scheduler", daemon=True)
        self.thread.start()

    def serve(self, kind: str, texts: list[str], handle: int) -> list[dict[str, Any]]:
        """Called by any other thread: waits until all of a request's documents are read."""
        request = self.request(kind, texts, handle)
        return asyncio.run_coroutine_threadsafe(request, self.loop).result()

    async def request(self, kind: str, texts: list[str], handle: int) -> list[dict[str, Any]]:
        with pykcov.remote(handle):
            jobs = [Job(kind, text, handle, self.loop.create_future()) for text in texts]
            return await asyncio.gather(*map(self.job, jobs))

    async def job(self, job: Job) -> dict[str, Any]:
        # A task of its own: it needs its own annotation, for a task does not inherit a section.
        with pykcov.remote(job.handle):
            async with self.slots[job.kind]:
                self.workers.queue.put(job)
                answer = await job.answer
            answer["length"] = len(job.text)
            return answer

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
