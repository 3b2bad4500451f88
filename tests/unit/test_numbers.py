"""What the calls that take numbers and modules say to anything else."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import pykcov
from pykcov import KcovError, abi


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0, "x"), "area_size has to be an int, not str"),
        ((None, 2), "trace_mode has to be an int, not NoneType"),
        ((0, 2, [1, "2"]), "handle has to be an int, not str"),
        ((0, 2, [], 1.0), "common_handle has to be an int, not float"),
    ],
)
def test_what_is_no_number_for_the_kernels_struct_is_named(arguments: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"^pack_remote_arg: {says}$"):
        abi.pack_remote_arg(*arguments)


@pytest.mark.parametrize("arguments", [(-1, 2), (0, 1 << 32), (0, 2, [1 << 64]), (0, 2, [], -1)])
def test_a_number_that_does_not_fit_the_kernels_struct_is_einval(arguments: Any) -> None:
    with pytest.raises(KcovError, match="pack_remote_arg: ") as caught:
        abi.pack_remote_arg(*arguments)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("wrong", ["json", None, 5])
def test_what_is_no_module_is_named_before_anything_is_instrumented(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"^instrument: {wrong!r} is no module"):
        pykcov.instrument(pytest, wrong)
