"""ASGI: a request's handles are in force in the task that serves it, and in what that causes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from .headers import NAME, received
from .jobs import working_for

__all__ = ["Middleware"]

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[Any]]
_Send: TypeAlias = Callable[[Any], Awaitable[None]]
_NAME = NAME.encode()


class Middleware:
    """Wraps an ASGI application: what it does for a request or websocket is a section of each handle that this carries.

    So is what the application hands on from there: to tasks, threads, pools. Costs a look at the headers if there is
    none. Nothing of the messages or of an exception is touched.
    """

    def __init__(self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve one connection."""
        # More than one such header is one that has all their members.
        values = [value for name, value in scope.get("headers", ()) if name == _NAME]
        found = received(b",".join(values)) if values else ()
        if not found:
            await self.app(scope, receive, send)
            return
        with working_for(found):
            await self.app(scope, receive, send)
