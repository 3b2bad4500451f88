"""Threads of a process, whose failures are told and make it fail."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable


def run_all(runs: Iterable[Callable[[], object]]) -> int:
    """Run each in a thread of its own, to the end of them all; return the exit status."""
    failed: list[str] = []

    def guarded(run: Callable[[], object]) -> None:
        try:
            run()
        except BaseException:
            failed.append(traceback.format_exc())

    threads = [threading.Thread(target=guarded, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*failed, sep="\n", file=sys.stderr, flush=True)
    return bool(failed)
