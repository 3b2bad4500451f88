"""What the carriers have in common: the handle as data, a job that carries it, a method that is wrapped."""

from __future__ import annotations

from .. import _recorder, late, task
from ..errors import is_own
from ..remote import adopt, enter, enter_all, leave_all
from . import install
from .waiting import restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from ..remote import Section
    from .waiting import Parts

__all__ = [
    "Begin", "InContext", "carry", "carry_given", "carry_initializer", "inherit_nothing", "parts", "put_run",
    "working_for", "wrap",
]  # fmt: skip


def parts(found: _recorder.Inherited | None) -> Parts:
    """Return what another process needs to inherit the same."""
    return tuple((i.handle, i.device, i.follow) for i in task.chain(found))


def carry(found: _recorder.Inherited, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` as a job that is a section of each common handle in force, here or in another process."""
    return _recorder.Around(_Enter(found), function, _leave)


def carry_given(found: _recorder.Inherited, function: Any) -> Any:
    """Return a callback that may be None as a job; who gets it says what is wrong with anything else."""
    return carry(found, function) if callable(function) else function


def carry_initializer(
    found: _recorder.Inherited, place: int, args: tuple[Any, ...], kw: dict[str, Any]
) -> tuple[Any, ...]:
    """Make the initializer among a pool's arguments a job of who makes the pool: its workers inherit nothing."""
    if "initializer" in kw:
        kw["initializer"] = carry_given(found, kw["initializer"])
    elif len(args) > place:
        return (*args[:place], carry_given(found, args[place]), *args[place + 1 :])
    return args


def put_run(owner: Any, run: Callable[..., Any]) -> Callable[[], None]:
    """Replace the ``run`` of one thread or process; return what puts back what was there.

    Not by setattr(): that may be the program's.
    """
    attributes = owner.__dict__
    before = attributes.get("run", attributes)
    attributes["run"] = run

    def put_back() -> None:
        if before is attributes:
            attributes.pop("run", None)
        else:
            attributes["run"] = before

    return put_back


class Begin:
    """Makes the thread or process that calls it inherit."""

    def __init__(self, found: _recorder.Inherited | None) -> None:
        self._found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), parts(self._found))

    def __call__(self) -> Any:
        """Inherit; what the caller executes from now on is collected."""
        task.inherit(self._found)
        adopt()


class _Enter(Begin):
    def __call__(self) -> tuple[task.Token, Sequence[Section]]:
        task.current()  # before it inherits: a worker follows nobody
        return task.inherit(self._found), enter_all(self._found)


def _leave(begun: tuple[task.Token, Sequence[Section]]) -> None:
    token, sections = begun
    leave_all(sections)
    task.reset(token)


class InContext:
    """Lets a context inherit ``found`` between enter() and leave(), as one does that is copied now."""

    def __init__(self, context: Context, found: _recorder.Inherited) -> None:
        self._context = context
        self._found = found

    def enter(self) -> tuple[task.Token, Sequence[Section]] | None:
        """Begin; None if the context inherits that already, or is entered."""
        if self._context.get(_recorder.inherited_var) is self._found:
            return None
        try:
            return self._context.run(self._inherit)
        except RuntimeError as error:
            if not is_own(error):
                raise
            return None

    def _inherit(self) -> tuple[task.Token, Sequence[Section]]:
        task.current()  # before it inherits: whom it follows is said here
        return task.inherit(self._found), enter_all(self._found, following=True)

    def leave(self, begun: tuple[task.Token, Sequence[Section]] | None) -> None:
        """End what enter() has begun."""
        if begun is not None:
            self._context.run(_leave, begun)


class working_for:
    """Lets a block be a section of each of these handles, in the task that it begins in, which passes them on."""

    def __init__(self, given: Parts) -> None:
        self._given = given

    def __enter__(self) -> None:
        with task.quiet:
            install()
            task.current()  # before it inherits: it is a section of these as it is
            token = task.inherit(restore(self._given, task.inherited()))
            opened = [enter(handle, key, implicit=True) for handle, key, _ in self._given]
            self._begun = token, [section for section in opened if section is not None]

    def __exit__(self, *error: object) -> None:
        _leave(self._begun)


def _unpickled(kind: type[Begin], given: Parts) -> Begin:
    install()
    return kind(restore(given))


class inherit_nothing:
    """Lets the threads and processes that are started in a block inherit nothing: they serve whoever comes."""

    def __enter__(self) -> None:
        self._token = task.inherit(None)

    def __exit__(self, *error: object) -> None:
        task.reset(self._token)


def wrap(owner: type, name: str, carrier: Callable[..., Any]) -> None:
    """Replace a method by ``carrier(found, method, ...)`` where the caller has something to pass on."""
    import functools  # who has the method has imported it

    original = getattr(owner, name)

    @functools.wraps(original)
    def carrying(*args: Any, **kwargs: Any) -> Any:
        found = task.inherited()
        if found is None:
            return original(*args, **kwargs)
        return carrier(found, original, *args, **kwargs)

    setattr(owner, name, carrying)


# Who hands work on has to have joined: on 3.11 a thread does not begin to record because another one does.
with task.quiet:
    late.join()
