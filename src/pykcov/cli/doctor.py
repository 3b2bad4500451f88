"""``pykcov doctor``: the probes and why, the namespace, its devices, what is stale."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib import metadata

from .. import __version__, inventory, probes
from ..errors import KcovError
from ..probes import cache
from ..report.text import encodable, plain, printable
from .streams import Parser, standard_output

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Return 0, or 1 if the namespace cannot be used; Stop for wrong usage."""
    parser = Parser(
        "pykcov doctor",
        description="Say which probe is in use and why, where the namespace is, which devices are "
        "open with how many handles, and which files of dead processes are left.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--clean", action="store_true", help="remove what processes that are gone have left behind"
    )
    options = parser.parse_args(argv)
    lines = [
        f"pykcov {__version__}, {platform.python_implementation()} {platform.python_version()}",
        f"  python    {sys.executable}",
        *(f"  {name:10}{_version(name)}" for name in ("rich", "coverage")),
        "\nprobes",
    ]
    entries, size = cache.inventory()
    described = [
        *probes.describe(),
        ("kept compiled code", f"{cache.directory()}: {entries} files, {size / 1e6:.1f} MB"),
    ]
    width = max((len(name) for name, _ in described), default=0)
    lines += [f"  {name:{width}}  {reason}" for name, reason in described]
    lines.append("\nnamespace")
    status = 0
    try:
        lines += _namespace(clean=options.clean)
    except KcovError as error:
        lines.append(f"  unusable: {(error.strerror or str(error)).removeprefix('namespace: ')}")
        status = 1
    with standard_output("doctor") as out:
        out.write("".join(f"{encodable(line, out)}\n" for line in lines))
    return status


def _handles(handles: tuple[int, ...]) -> str:
    more = f" and {len(handles) - 4} more" if len(handles) > 4 else ""
    return " ".join(f"{handle:#x}" for handle in handles[:4]) + more or "-"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # also where some directory here has the name
        return "not installed (optional)"


def _namespace(*, clean: bool) -> list[str]:
    removed = inventory.clean() if clean else []
    found = inventory.read()
    rows = [
        (
            f"  {device.number}",
            str(device.mode),
            f"{device.owner_pid or '-'}{'' if device.alive else ' (gone)'}",
            str(device.size),
            _handles(device.handles),
            str(device.dropped),
        )
        for device in found.devices
    ]
    head = ("  device", "mode", "process", "size in words", "handles", "dropped")
    lines = [f"  {printable(found.path)}", "\ndevices"]
    lines += plain([head, *rows]) if rows else ["  none"]
    lines.append("\nstale")
    lines += [f"  {printable(name)}  removed" for name in removed]
    lines += [f"  {printable(name)}" for name in found.stale]
    if found.stale and not clean:
        lines.append("  (`pykcov doctor --clean` removes these)")
    if not found.stale and not removed:
        lines.append("  nothing")
    return lines
