"""Common handles travel with a request: in the member ``pykcov`` of its W3C ``baggage`` header.

    inject(headers)     the client: add what the current task inherits
    extract(headers)    the server: the handles of who listens here, usually none

The member names handle and session of each collection, and is signed with a secret of the namespace, which only its
user can read: nothing that somebody else sends is looked up. Any number of other members may be there, and are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import _recorder, registry, task
from ..registry import Header, Registry
from ..task import CommonHandle, quietly
from .jobs import parts

if TYPE_CHECKING:
    from .waiting import Parts

__all__ = ["extract", "inject", "received"]

NAME = "baggage"
_MEMBER = "pykcov"

# Of the header, as its specification has it; what is longer was not made by inject().
_MAX_LENGTH = 8192
# Collections that are open around a request, one in another: the 16 innermost.
_MAX_HANDLES = 16
# Letters, digits, '.', '_' and '-' only: whoever passes a member on may encode all others.
_VALUE = re.compile(r"([0-9a-f]{32})((?:\.[0-9a-f]{1,16}_[0-9a-f]{1,16}_[01]){1,16})")
_MINE = re.compile(rf"(?:^|,)[ \t]*{_MEMBER}[ \t]*=([^,;]*)")

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[Any, Any]]


@quietly
def inject(headers: MutableMapping[str, str]) -> None:
    """Add to ``headers`` what the current task inherits, so that who serves the request works for it.

    Nothing is changed if it inherits nothing: where nobody collects. A member ``pykcov`` that is there is replaced, the
    others are kept; the header's name may be written in any case.
    """
    carried = parts(task.inherited())[-_MAX_HANDLES:]
    if not carried:
        return
    text = "".join(f".{handle:x}_{key:x}_{follow:d}" for handle, key, follow in carried)
    name = next((name for name in headers if name.lower() == NAME), NAME)
    others = [
        member.strip(" \t")
        for member in headers.get(name, "").split(",")
        if member.partition("=")[0].strip(" \t") not in ("", _MEMBER)
    ]
    headers[name] = ",".join([*others, f"{_MEMBER}={_sign(registry.get(), text)}{text}"])


@quietly
def extract(headers: Headers) -> tuple[int, ...]:
    """Return the common handles that a request carries and somebody in this namespace listens to, the outermost first.

    ``headers`` is a mapping, or pairs of name and value, ``str`` or ``bytes``. Each handle is what common_handle()
    returned to the client: give it to ``remote()``. Never raises for what a client may send: that is no handle.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    values = [value for name, value in pairs if _text(name).lower() == NAME]
    return tuple(
        CommonHandle(handle, key) for handle, key, _ in _parts(",".join(map(_text, values)))
    )


@quietly
def received(value: str | bytes) -> Parts:
    """Return what a request with this header is done for: nothing, usually."""
    marker: Any = _MEMBER.encode() if isinstance(value, bytes) else _MEMBER
    return _parts(_text(value)) if marker in value else ()


def _parts(header: str) -> Parts:
    """Return the handles of a header that are signed, and listened to."""
    if len(header) > _MAX_LENGTH:
        return ()
    members = _MINE.findall(header)
    if len(members) != 1:  # nobody adds a second one
        return ()
    value = members[0].strip(" \t")
    if "%" in value:  # passed on by somebody who encodes all
        from urllib.parse import unquote

        value = unquote(value)
    found = _VALUE.fullmatch(value)
    if found is None or not _is_ours(found[1], found[2]):
        return ()
    every = (part.split("_") for part in found[2][1:].split("."))
    carried = [(int(handle, 16), int(key, 16), follow == "1") for handle, key, follow in every]
    return tuple(
        (handle, key, follow)
        for handle, key, follow in carried
        if _recorder.find(CommonHandle(handle, key)) is not None
    )


def _is_ours(signature: str, text: str) -> bool:
    """Tell whether somebody in this namespace listens, and one of its processes has signed."""
    from hmac import compare_digest

    try:
        shared = registry.get()
    except OSError:  # it cannot be used: there is nobody in it
        return False
    return bool(shared.header[Header.COUNT]) and compare_digest(signature, _sign(shared, text))


def _sign(shared: Registry, text: str) -> str:
    from hashlib import blake2b

    return blake2b(text.encode(), key=shared.secret(), digest_size=16).hexdigest()


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
