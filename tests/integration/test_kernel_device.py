"""The kernel's device where it cannot be had: what is missing and what to do, in one line.

tests/kernel has the rest, on a kernel with kcov.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pykcov
from pykcov import linux

PATH = "/sys/kernel/debug/kcov"
# All is imported first: another user may not be allowed to read it.
OPEN = f"""
import os, sys, pykcov, pykcov.device, pykcov.linux
os.setuid(int(sys.argv[1]))
try:
    pykcov.open({PATH!r})
except pykcov.KcovError as error:
    print(error)
"""
DEBUGFS = "mount -t debugfs none /sys/kernel/debug"


def opened_where(mounts: str, user: int = 0) -> str:
    """What opening the device says where the shell command has changed what is mounted, for itself only."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mounts}; exec "$0" "$@"', sys.executable, "-c", OPEN, str(user)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_without_debugfs_the_error_says_how_to_mount_it() -> None:
    said = opened_where("umount -a -t debugfs")
    assert said == f"[Errno 2] open {PATH}: debugfs is not mounted: as root, {DEBUGFS}"


@pytest.mark.skipif(os.path.exists(PATH), reason="this kernel has kcov: tests/kernel")
def test_a_kernel_without_kcov_needs_config_kcov() -> None:
    said = opened_where(f"umount -a -t debugfs; {DEBUGFS}")
    assert (
        said
        == f"[Errno 2] open {PATH}: this kernel has no kcov: it has to be built with CONFIG_KCOV=y"
    )


def test_who_is_not_root_is_told_so() -> None:
    said = opened_where(f"umount -a -t debugfs; {DEBUGFS}", user=65534)
    assert said == (
        f"[Errno 13] open {PATH}: only root may open it: run this as root, or let root hand over the open descriptor"
    )


def test_another_path_has_the_systems_own_words() -> None:
    with pytest.raises(pykcov.KcovError, match=re.escape("open /no/kcov: No such file")) as caught:
        pykcov.open("/no/kcov")
    assert caught.value.errno == errno.ENOENT


def test_the_kernels_device_has_no_options() -> None:
    with pytest.raises(TypeError, match="no options"):
        pykcov.open(PATH, branch=True)  # type: ignore[call-overload]


def test_a_file_that_is_no_kcov_answers_enotty_and_says_what_it_is_not() -> None:
    with pykcov.open("/dev/null") as device:
        assert isinstance(device, linux.Device)
        for call in (
            lambda: device.init_trace(512),
            device.enable,
            device.disable,
            lambda: device.remote_enable(area_size=64),
        ):
            with pytest.raises(pykcov.KcovError, match="not kcov's device") as caught:
                call()
            assert caught.value.errno == errno.ENOTTY
    assert device.closed


def test_a_descriptor_is_owned_by_its_device() -> None:
    device = linux.Device.from_fd(os.open("/dev/null", os.O_RDWR))
    fd = device.fileno()
    device.close()
    device.close()
    with pytest.raises(OSError):
        os.fstat(fd)
    with pytest.raises(pykcov.KcovError, match="is not open"):
        linux.Device.from_fd(fd)


def test_a_device_whose_descriptor_is_anothers_by_now_does_not_close_it(tmp_path: Path) -> None:
    """As after os.closerange(3, 1024): the number was a file of the program's, and was closed."""
    device = pykcov.open("/dev/null")
    fd = device.fileno()
    assert fd >= 100
    with (tmp_path / "own").open("wb") as own:
        os.dup2(own.fileno(), fd)
        device.close()
        assert os.path.sameopenfile(fd, own.fileno())
        os.close(fd)


def test_every_verb_of_a_closed_device_is_ebadf() -> None:
    device = pykcov.open("/dev/null")
    device.close()
    for call in (
        lambda: device.init_trace(512),
        device.mmap,
        device.enable,
        device.disable,
        lambda: device.remote_enable(area_size=64),
        lambda: device.ioctl(0),
        device.fileno,
        device.__enter__,
    ):
        with pytest.raises(pykcov.KcovError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_device_that_is_not_closed_is_a_resource_warning() -> None:
    with pytest.warns(ResourceWarning, match="unclosed <pykcov.linux.Device fd"):
        pykcov.open("/dev/null")
        gc.collect()


def test_numbers_that_do_not_fit_never_reach_the_kernel() -> None:
    with pykcov.open("/dev/null") as device:
        for call in (
            lambda: device.init_trace(1 << 64),
            lambda: device.disable(1 << 64),
            lambda: device.remote_enable(area_size=1 << 32),
            lambda: device.remote_enable(area_size=64, handles=[1 << 64]),
        ):
            with pytest.raises(pykcov.KcovError) as caught:
                call()
            assert caught.value.errno == errno.EINVAL
        with pytest.raises(TypeError, match="size has to be an int, not str"):
            device.init_trace("512")  # type: ignore[arg-type]
