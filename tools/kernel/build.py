"""A Linux with kcov for the tests, built once and kept: build.py (um | x86) prints its path.

um is User-Mode Linux, a program that runs as it is; x86 is for qemu-system-x86_64. The source is Debian's own
package, which nobody has built with kcov. The result is kept under XDG_CACHE_HOME, in a folder that is named by
everything that it was made of: the configuration, this recipe, the version of the source and of the compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = "linux-source-6.1"
TOOLS = ("gcc", "libc6-dev", "make", "flex", "bison", "bc", "xz-utils", SOURCE)


class Missing(Exception):
    """The machine lacks something; the text is one line that says what to do."""


@dataclass(frozen=True)
class Recipe:
    """How a kernel is made, and which of the files that come out are kept."""

    make: tuple[str, ...]
    target: str
    kept: tuple[str, ...]
    packages: tuple[str, ...]


RECIPES = {
    "um": Recipe(
        # UML calls these before it has a task, on a stack of the host's: with kcov's calls in them it crashes.
        (
            "ARCH=um",
            "SUBARCH=x86_64",
            "KCOV_INSTRUMENT_vsprintf.o=n",
            "KCOV_INSTRUMENT_cmdline.o=n",
            "KCOV_INSTRUMENT_kstrtox.o=n",
        ),
        "linux",
        ("linux",),
        TOOLS,
    ),
    "x86": Recipe(
        ("ARCH=x86_64",),
        "bzImage",
        ("arch/x86/boot/bzImage", "vmlinux"),
        (*TOOLS, "libelf-dev", "qemu-system-x86"),
    ),
}


def get(kind: str) -> Path:
    """Return the folder of the kernel, which is built first if it is not there. Raises Missing."""
    recipe = RECIPES[kind]
    version = _install(recipe.packages)
    config = (HERE / "common.config").read_text() + (HERE / f"{kind}.config").read_text()
    gcc = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout
    made_of = repr((config, recipe, version, gcc.splitlines()[0]))
    key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pykcov" / "kernel"
    folder = cache / f"{kind}-{key}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(
                lock, fcntl.LOCK_EX
            )  # one build at a time; released when the file is closed
            if not folder.exists():  # nobody has built it meanwhile
                _build(recipe, config, cache, folder, version)
    return folder


def _install(packages: tuple[str, ...]) -> str:
    """See to it that the packages are there, and return the version of the source. Raises Missing."""
    lacking = [name for name in packages if not _version(name)]
    if lacking and os.environ.get("CI") == "true" and os.geteuid() == 0 and shutil.which("apt-get"):
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
        options = ["install", "-y", "--no-install-recommends"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*apt, "update"], env=quiet, stdout=sys.stderr, check=True)
        subprocess.run([*apt, *options, *lacking], env=quiet, stdout=sys.stderr, check=True)
        lacking = [name for name in packages if not _version(name)]
    if lacking:
        names = " ".join(lacking)
        raise Missing(f"this machine lacks {names}: on Debian 12, apt-get install {names}")
    return _version(SOURCE)


def _version(package: str) -> str:
    """Return the version of a package that is installed, '' if it is not."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", package]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:  # no Debian
        return ""
    return said[1] if said[:1] == ["installed"] else ""


def _build(recipe: Recipe, config: str, cache: Path, folder: Path, version: str) -> None:
    began = time.monotonic()
    print(f"=== {folder.name}: building Linux {version}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as name:
        source, out = Path(name, "source"), Path(name, "out")
        source.mkdir()
        out.mkdir()
        archive = f"/usr/src/{SOURCE}.tar.xz"
        unused = [f"--exclude=*/{part}" for part in ("Documentation/*/*", "tools/testing/*")]
        tar = ["tar", "-xf", archive, "-C", str(source), "--strip-components=1", *unused]
        subprocess.run(tar, check=True)
        fragment = Path(name, "fragment")
        fragment.write_text(config)
        make = ["make", "-s", "-C", str(source), f"O={out}", *recipe.make]
        with Path(name, "log").open("w+") as log:

            def run(*arguments: str) -> None:
                done = subprocess.run([*make, *arguments], stdout=log, stderr=log, check=False)
                if done.returncode:
                    log.seek(0)
                    print(*log.read().splitlines()[-30:], sep="\n", file=sys.stderr)
                    raise SystemExit(f"make {' '.join(arguments)}: status {done.returncode}")

            run(f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
            _check(config, (out / ".config").read_text())
            run(f"-j{len(os.sched_getaffinity(0))}", recipe.target)
        ready = Path(name, "ready")
        ready.mkdir()
        for kept in recipe.kept:
            shutil.move(out / kept, ready)
        shutil.copy(out / ".config", ready / "config")
        ready.rename(folder)
    print(f"=== {folder.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _check(wanted: str, got: str) -> None:
    """See that every option stuck: make drops in silence what depends on another one."""
    there = set(got.splitlines())
    lost = [line for line in wanted.splitlines() if "CONFIG_" in line and line not in there]
    if lost:
        raise SystemExit(f"the configuration did not take {', '.join(lost)}")


def main(arguments: list[str]) -> int:
    """The command line."""
    if len(arguments) != 1 or arguments[0] not in RECIPES:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(get(arguments[0]))
    except Missing as error:
        print(f"kernel-test: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
