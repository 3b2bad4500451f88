"""A program that a collection has started inherits at once, and joins it when code runs that may be wanted.

Most children do little, and much of that in the standard library: until other code is executed they import next to
nothing of pykcov. Where the library is wanted too, they join before they begin; who started them says so.
"""

from __future__ import annotations

from .. import _recorder, late
from . import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    # handle, key of its session, whether to follow; from the outermost to the innermost
    Parts: TypeAlias = tuple[tuple[int, int, bool], ...]

__all__ = ["begin", "restore", "text_of"]


def restore(given: Parts, outer: _recorder.Inherited | None = None) -> _recorder.Inherited | None:
    """Return what jobs.parts() was called on, in this process, inside of ``outer``."""
    found = outer
    for handle, key, follow in given:
        found = _recorder.Inherited(handle, key, follow, found)
    return found


def text_of(namespace: str, given: Parts, *, may_wait: bool) -> str:
    """Return what a program needs to inherit, for begin()."""
    handles = ",".join(f"{handle:x}:{key:x}:{follow:d}" for handle, key, follow in given)
    return f"{namespace}/{handles}/{may_wait:d}"


def begin(text: str) -> None:
    """Inherit in the main thread of a program that was started with ``text`` in its environment."""
    try:
        name, handles, may_wait = text.split("/")
        words = [part.split(":") for part in handles.split(",")]
        found = restore(tuple((int(h, 16), int(key, 16), f == "1") for h, key, f in words))
    except (ValueError, OverflowError):  # not ours
        return
    late.namespace = name
    late.waits = True
    _recorder.inherited_var.set(found)
    _recorder.refresh()
    install()
    if may_wait == "1":
        _recorder.install(uncompiled=_look)
        _recorder.watch_exec()
    else:
        late.join()


def _look(what: object) -> None:
    """Code is about to be executed, of that object or of a file of that name. Called by C."""
    if not late.waits:
        return
    name = str(getattr(what, "co_filename", what))
    # A thread that inherits nothing would join for nobody.
    if (
        not (name.startswith("<") or late.is_library(name))
        and _recorder.inherited_var.get() is not None
    ):
        late.join()
