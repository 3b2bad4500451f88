"""WSGI: a request's handles are in force while the application is called, and while its answer is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from .headers import received
from .jobs import working_for

if TYPE_CHECKING:
    from .waiting import Parts

__all__ = ["Middleware"]

_Environ: TypeAlias = dict[str, Any]


class Middleware:
    """Wraps a WSGI application: what it does for a request is a section of each handle that this carries.

    That is the call, each step of the iterable that it returns, and its ``close()``; and what is handed on from there
    to threads and pools. Costs a look at the environment if there is no handle.
    """

    def __init__(self, app: Callable[[_Environ, Any], Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: _Environ, start_response: Any) -> Iterable[bytes]:
        """Serve one request."""
        value = environ.get("HTTP_BAGGAGE")
        found = received(value) if value else ()
        if not found:
            return self.app(environ, start_response)
        with working_for(found):
            answer = self.app(environ, start_response)
        # Servers look for these two: a length, a file that the kernel can send. No code of the application is in them.
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(answer, list | tuple) or (
            isinstance(file_wrapper, type) and isinstance(answer, file_wrapper)
        ):
            return answer
        kind = _SizedAnswer if hasattr(type(answer), "__len__") else _Answer
        return kind(answer, found)


class _Answer:
    """An iterable whose steps belong to the request."""

    def __init__(self, answer: Iterable[bytes], found: Parts) -> None:
        self._answer = answer
        self._found = found
        self._steps: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with working_for(self._found):
            if self._steps is None:
                self._steps = iter(self._answer)
            return next(self._steps)

    def close(self) -> None:
        close = getattr(self._answer, "close", None)
        if close is not None:
            with working_for(self._found):
                close()


class _SizedAnswer(_Answer):
    """One whose length servers may ask for: of one piece they make a Content-Length."""

    def __len__(self) -> int:
        with working_for(self._found):
            return len(self._answer)  # type: ignore[arg-type]
