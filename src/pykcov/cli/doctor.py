"""``pykcov doctor``: the probes and why, the namespace, its devices, what is stale."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

from .. import __version__, inventory, probes
from ..errors import KcovError
from ..probes import cache
from ..report.text import plain, printable

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Return 0, 1 if the namespace cannot be used, 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        "pykcov doctor",
        description="Say which probe is in use and why, where the namespace is, which devices are "
        "open with how many handles, and which files of dead processes are left.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--clean", action="store_true", help="remove what processes that are gone have left behind"
    )
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # --help is 0, a mistake is 2
        return int(stop.code or 0)
    print(f"pykcov {__version__}, {platform.python_implementation()} {platform.python_version()}")
    print(f"  python    {sys.executable}")
    for name in ("rich", "coverage"):
        print(f"  {name:10}{_version(name)}")
    print("\nprobes")
    entries, size = cache.inventory()
    described = [
        *probes.describe(),
        ("kept compiled code", f"{cache.directory()}: {entries} files, {size / 1e6:.1f} MB"),
    ]
    width = max((len(name) for name, _ in described), default=0)
    for name, reason in described:
        print(f"  {name:{width}}  {reason}")
    print("\nnamespace")
    try:
        _print_namespace(clean=options.clean)
    except KcovError as error:
        print(f"  unusable: {(error.strerror or str(error)).removeprefix('namespace: ')}")
        return 1
    return 0


def _handles(handles: tuple[int, ...]) -> str:
    more = f" and {len(handles) - 4} more" if len(handles) > 4 else ""
    return " ".join(f"{handle:#x}" for handle in handles[:4]) + more or "-"


def _version(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        return "not installed (optional)"
    return metadata.version(name)


def _print_namespace(*, clean: bool) -> None:
    removed = inventory.clean() if clean else []
    found = inventory.read()
    print(f"  {printable(found.path)}")
    print("\ndevices")
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
    if rows:
        head = ("  device", "mode", "process", "size in words", "handles", "dropped")
        print("\n".join(plain([head, *rows])))
    else:
        print("  none")
    print("\nstale")
    for name in removed:
        print(f"  {printable(name)}  removed")
    for name in found.stale:
        print(f"  {printable(name)}")
    if found.stale and not clean:
        print("  (`pykcov doctor --clean` removes these)")
    if not found.stale and not removed:
        print("  nothing")
