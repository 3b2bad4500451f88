"""Run a command in a guest whose kernel has kcov: run.py [--timeout SECONDS] (um | x86) COMMAND...

The guest sees the files of the host, read-only, and has a /tmp and a /dev/shm of its own. The command runs as root, in
the folder and with the PATH of who calls, and its status is this program's; 3 if the guest ends without one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import build

INIT = Path(__file__).with_name("init.sh").resolve()
# Folders that the guest has itself.
OWN = ("/tmp", "/dev/shm")


# The kernel with its debug information.
IMAGES = {"um": "linux", "x86": "vmlinux"}


def um(kernel: Path, out: Path, parameters: list[str]) -> list[str]:
    """Return the command that boots User-Mode Linux."""
    consoles = ["con=null", "con0=null,fd:1", "con1=null", "ssl=null"]
    root = ["root=none", "rootfstype=hostfs", "rootflags=/"]
    return [
        str(kernel / "linux"),
        "mem=768M",
        *root,
        *consoles,
        f"OUT={out}",
        "REBOOT=0x4321fedc",
        *parameters,
    ]


def x86(kernel: Path, out: Path, parameters: list[str]) -> list[str]:
    """Return the command that boots a PC with two processors in qemu."""
    flags = "rootflags=trans=virtio,version=9p2000.L,cache=loose,msize=524288"
    root = ["root=root", "rootfstype=9p", flags, "ROOT=9p", "REBOOT=0x01234567"]
    machine = ["console=ttyS0", "reboot=t", "panic=-1", "tsc=reliable", "no_timer_check"]
    return [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-m", "1G",
        # Without ACPI the second processor is found by the BIOS's table, which lists sockets only.
        "-M", "pc,acpi=off", "-smp", "2,sockets=2,cores=1", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off",
        "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci",
        "-fsdev", "local,id=r,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=r,mount_tag=root",
        "-fsdev", f"local,id=o,path={out},security_model=none",
        "-device", "virtio-9p-pci,fsdev=o,mount_tag=out",
        "-kernel", str(kernel / "bzImage"), "-append", " ".join([*machine, *root, *parameters]),
    ]  # fmt: skip


def run(kind: str, command: list[str], timeout: float) -> int:
    """Boot, run the command and return its status."""
    kernel = build.get(kind)
    with (
        tempfile.TemporaryDirectory(prefix="pykcov-guest-") as name,
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="pykcov-guest-") as memory,
    ):
        out = Path(name)
        out.chmod(0o755)
        path = shlex.quote(os.environ.get("PATH", os.defpath))
        image = shlex.quote(str(kernel / IMAGES[kind]))
        (out / "command").write_text(
            f"cd {shlex.quote(os.getcwd())} && "
            f"PATH={path} PYKCOV_VMLINUX={image} {shlex.join(command)}\n"
        )
        parameters = ["ro", "quiet", f"init={INIT}", "dummy_hcd.num=2", f"PYTHON={sys.executable}"]
        boot = {"um": um, "x86": x86}[kind](kernel, out, parameters)
        # UML keeps the guest's memory in TMPDIR, which has to be in memory itself, and its sockets in HOME.
        environment = {**os.environ, "TMPDIR": memory, "HOME": memory}
        # In a session of its own: whatever UML starts ends with it, and Ctrl-C is for us.
        guest = subprocess.Popen(
            boot, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            guest.wait(timeout)
        except subprocess.TimeoutExpired:
            print(f"kernel-test: the guest was ended after {timeout:.0f} s", file=sys.stderr)
        finally:
            with contextlib.suppress(ProcessLookupError):  # none is left, as it should be
                os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
        try:
            return int((out / "status").read_text())
        except (FileNotFoundError, ValueError):
            print("kernel-test: the guest ended before its command did", file=sys.stderr)
            return 3


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser("run.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("kind", choices=sorted(build.RECIPES))
    parser.add_argument("--timeout", type=float, default=1200, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("a command is needed")
    here = Path.cwd()
    if any(here.is_relative_to(folder) for folder in OWN):
        print(
            f"kernel-test: the guest does not see {here}: it has {' and '.join(OWN)} of its own; call it elsewhere",
            file=sys.stderr,
        )
        return 2
    # The end of this process is the guest's end too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return run(options.kind, options.command, options.timeout)
    except build.Missing as error:
        print(f"kernel-test: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
