"""What travels through the server: a job, and with it the handle of the client it is done for."""

import asyncio
from dataclasses import dataclass
from typing import Any


@dataclass
class Job:
    kind: str
    text: str
    handle: int  # 0: this client did not ask for coverage
    answer: "asyncio.Future[dict[str, Any]]"

    def finish(self, answer: dict[str, Any]) -> None:
        """Runs in the loop's thread. A job that nobody waits for any more is let go."""
        if not self.answer.done():
            self.answer.set_result(answer)
