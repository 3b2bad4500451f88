"""instrument(): compile modules with probes in them, instead of asking the interpreter for events."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterable
from types import CodeType, FunctionType, ModuleType

from .errors import warn
from .probes import compare, compiled
from .probes.rewrite import Extent
from .scope import Scope
from .task import quietly

__all__ = ["instrument"]


@quietly
def instrument(
    *modules: ModuleType,
    source: Iterable[str] = (),
    include: Iterable[str] = (),
    omit: Iterable[str] = (),
    comparisons: bool = False,
    methods: bool = True,
    lookups: bool = False,
) -> None:
    """Compile the modules that are imported from now on with probes in them.

    ``source``, ``include`` and ``omit`` choose them as coverage.py's do. Their code costs a few percent while nobody
    collects, and a fraction of what event probes cost while somebody does. Nothing else changes: all code that has
    no probes is recorded by event probes in the same collections. A KcovWarning names modules of that
    choice that were imported before, or have no source.

    ``comparisons``: also with probes that record what is compared (collect() with TRACE_CMP), which cost more while
    nobody collects. To operators, ``in``, ``is`` and ``match`` they add, unless ``methods`` is false, the methods of
    str and bytes that compare, and the texts that regular expressions begin with; and if ``lookups`` is true,
    ``d[k]`` and ``d.get(k)`` of dictionaries.

    With ``modules``, which are imported already: give their functions, those of their classes, and what these make
    later, code with probes. A function whose source is not what it was made of is left as it is, and named in a
    KcovWarning.

    Call it before the imports. ``pykcov run`` does it by itself.
    """
    extent = Extent(methods=methods, lookups=lookups) if comparisons else None
    if modules:
        for module in modules:
            if not isinstance(module, ModuleType):
                raise TypeError(
                    f"instrument: {module!r:.200} is no module; source= and include= choose what is imported later"
                )
        for module in modules:
            _give_probes(module, extent)
        return
    scope = Scope(source, include, omit)
    compiled.install(scope, comparisons=extent)
    caller = sys._getframe(2).f_globals.get("__name__")
    late = {name for name in _imported(scope) if name != caller}
    if late:
        warn(f"instrument: imported before, so event probes record them: {', '.join(sorted(late))}")
    blind = (
        {name for name in compare.blind(scope) if name != caller} - late if comparisons else set()
    )
    if blind:
        warn(f"instrument: compiled before, without comparison probes: {', '.join(sorted(blind))}")


def _imported(scope: Scope) -> Iterable[str]:
    """Return the names of modules of a scope that are there without probes."""
    files = set(compiled.without_probes(scope))
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) in files:
            yield name


def _give_probes(module: ModuleType, comparisons: Extent | None) -> None:
    """Replace the code of the functions that came from a module's file."""
    path = getattr(module, "__file__", None)
    compared = isinstance(path, str) and compare.is_instrumented(path)
    pairs = compiled.pairs_of(path, comparisons=comparisons) if isinstance(path, str) else None
    if path is None or pairs is None:
        warn(f"instrument: {module.__name__} has no source that can be compiled with probes")
        return
    left = []
    is_running = is_late = False
    for found in gc.get_objects():
        code = _code_of(found)
        if code is None or code.co_filename != path:
            continue
        if compiled.is_probed(code):
            is_late = is_late or (comparisons is not None and not compared)
            continue
        twin = pairs.get(code)
        if not isinstance(found, FunctionType):
            is_running = True  # a generator goes on with what it has
        elif twin is None or twin.co_freevars != code.co_freevars:
            left.append(found.__qualname__)
        else:
            found.__code__ = twin
    for top in list(sys._current_frames().values()):
        frame = top
        while frame is not None:
            is_running = is_running or frame.f_code.co_filename == path
            frame = frame.f_back  # type: ignore[assignment]
    if left:
        warn(
            f"instrument: {module.__name__}: the source is not what these were made of, "
            f"so event probes record them: {', '.join(sorted(left))}"
        )
    elif not is_running:
        compiled.forget(path)
    if is_late:
        warn(f"instrument: {module.__name__} was compiled before, without comparison probes")


def _code_of(found: object) -> CodeType | None:
    """Return the code that a function, or something that is suspended, executes."""
    if isinstance(found, FunctionType):
        return found.__code__
    if inspect.isgenerator(found):
        return found.gi_code
    if inspect.iscoroutine(found):
        return found.cr_code
    if inspect.isasyncgen(found):
        return found.ag_code
    return None
