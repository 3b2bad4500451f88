"""Bad arguments of verbs and annotations: clear errors and warnings, and nobody harmed."""

from __future__ import annotations

import contextlib
import errno
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pykcov

# Arguments of the verbs


@pytest.fixture
def device() -> Iterator[pykcov.Device]:
    with pykcov.open(include=[__file__]) as device:
        yield device
        with contextlib.suppress(pykcov.KcovError):
            device.disable()  # a case that failed must not leave this task busy


@pytest.fixture
def sized(device: pykcov.Device) -> pykcov.Device:
    device.init_trace(64)
    return device


Call = Callable[[pykcov.Device], Any]
NOT_A_NUMBER: list[tuple[str, Call]] = [
    ("init_trace('64')", lambda d: d.init_trace("64")),
    ("init_trace(None)", lambda d: d.init_trace(None)),
    ("init_trace(64.0)", lambda d: d.init_trace(64.0)),
    ("enable('pc')", lambda d: d.enable("pc")),
    ("enable(None)", lambda d: d.enable(None)),
    ("remote_enable(area_size='16')", lambda d: d.remote_enable(area_size="16")),
    ("remote_enable(area_size=1.5)", lambda d: d.remote_enable(area_size=1.5)),
    ("remote_enable(area_size=None)", lambda d: d.remote_enable(area_size=None)),
    ("remote_enable()", lambda d: d.remote_enable()),
    ("handles=5", lambda d: d.remote_enable(area_size=16, handles=5)),
    ("handles=['a']", lambda d: d.remote_enable(area_size=16, handles=["a"])),
    ("handles='ab'", lambda d: d.remote_enable(area_size=16, handles="ab")),
    ("handles=[1, None]", lambda d: d.remote_enable(area_size=16, handles=[1, None])),
    ("common_handle='7'", lambda d: d.remote_enable(area_size=16, common_handle="7")),
    ("common_handle=None", lambda d: d.remote_enable(area_size=16, common_handle=None)),
    ("trace_mode='pc'", lambda d: d.remote_enable(area_size=16, trace_mode="pc")),
    ("ioctl('enable')", lambda d: d.ioctl("enable")),
    ("ioctl(ENABLE, b'')", lambda d: d.ioctl(0x6364, b"")),
    ("ioctl(ENABLE, None)", lambda d: d.ioctl(0x6364, None)),
    ("ioctl(INIT_TRACE, '64')", lambda d: d.ioctl(0x80086301, "64")),
    ("ioctl(REMOTE_ENABLE, 'text')", lambda d: d.ioctl(0x40186366, "text" * 9)),
    ("ioctl(REMOTE_ENABLE, None)", lambda d: d.ioctl(0x40186366, None)),
    ("mmap('all')", lambda d: d.mmap("all")),
]


@pytest.mark.parametrize(("name", "call"), NOT_A_NUMBER, ids=[name for name, _ in NOT_A_NUMBER])
def test_what_is_no_number_is_a_type_error_or_einval_and_changes_nothing(
    sized: pykcov.Device, name: str, call: Call
) -> None:
    with pytest.raises((TypeError, pykcov.KcovError)) as caught:
        call(sized)
    if isinstance(caught.value, pykcov.KcovError):
        assert caught.value.errno in (errno.EINVAL, errno.EFAULT)
    sized.enable()
    sized.disable()
    sized.remote_enable(area_size=16, handles=[1])
    sized.disable()


OUT_OF_RANGE: list[tuple[str, Call]] = [
    ("area_size=-1", lambda d: d.remote_enable(area_size=-1)),
    ("area_size=-2**63", lambda d: d.remote_enable(area_size=-(2**63))),
    ("area_size=2**32", lambda d: d.remote_enable(area_size=2**32)),
    ("area_size=2**64", lambda d: d.remote_enable(area_size=2**64)),
    ("handles=[-1]", lambda d: d.remote_enable(area_size=16, handles=[-1])),
    ("handles=[2**64]", lambda d: d.remote_enable(area_size=16, handles=[2**64])),
    ("handles=[1, 2**70]", lambda d: d.remote_enable(area_size=16, handles=[1, 2**70])),
    ("common_handle=-1", lambda d: d.remote_enable(area_size=16, common_handle=-1)),
    ("common_handle=2**64", lambda d: d.remote_enable(area_size=16, common_handle=2**64)),
    ("trace_mode=-1", lambda d: d.remote_enable(area_size=16, trace_mode=-1)),
    ("trace_mode=2**64", lambda d: d.remote_enable(area_size=16, trace_mode=2**64)),
    ("enable(2**64)", lambda d: d.enable(2**64)),
    ("disable(2**64)", lambda d: d.disable(2**64)),
    ("init_trace(2**64)", lambda d: d.init_trace(2**64)),
    ("mmap(-1)", lambda d: d.mmap(-1)),
    ("mmap(2**64)", lambda d: d.mmap(2**64)),
    ("mmap(512, -8)", lambda d: d.mmap(512, -8)),
]


@pytest.mark.parametrize(("name", "call"), OUT_OF_RANGE, ids=[name for name, _ in OUT_OF_RANGE])
def test_a_number_out_of_range_is_einval_and_changes_nothing(
    sized: pykcov.Device, name: str, call: Call
) -> None:
    with pytest.raises(pykcov.KcovError) as caught:
        call(sized)
    assert caught.value.errno == errno.EINVAL
    sized.remote_enable(area_size=16, handles=[1], common_handle=2)
    sized.disable()


def test_handles_that_raise_while_they_are_read_change_nothing(sized: pykcov.Device) -> None:
    def handles() -> Iterator[int]:
        yield 1
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        sized.remote_enable(area_size=16, handles=handles())
    sized.remote_enable(area_size=16, handles=[1])
    sized.disable()


def test_scope_arguments_of_a_wrong_type_are_a_type_error_and_leave_no_device() -> None:
    for wrong in (5, [5], [None], None):
        with pytest.raises(TypeError):
            pykcov.open(include=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            pykcov.open(source=wrong)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError)):
        pykcov.open(sections=-1)
    with pytest.raises(TypeError):
        pykcov.open(sections="many")  # type: ignore[arg-type]


def test_a_single_string_is_one_pattern_and_not_a_list_of_letters() -> None:
    """`include="*/x.py"` as letters would be the pattern "*" among others, and match everything."""
    with pykcov.open(include="*/no-such-file.py") as device:
        device.init_trace(64)
        area = device.mmap()
        device.enable()
        str(device)
        device.disable()
        assert area[0] == 0


def test_a_block_that_did_not_begin_cannot_end_and_is_none_the_worse() -> None:
    collection = pykcov.collect(include=[__file__])
    for _ in range(2):
        with pytest.raises(pykcov.KcovError, match="no block that could end") as caught:
            collection.__exit__(None, None, None)
        assert caught.value.errno == errno.EINVAL
        if collection._pid == 0:
            with collection:
                len("")
    assert len(collection.trace)


@pytest.mark.parametrize(
    ("subsystem", "instance"),
    [(1, 1), (5, 0), (1 << 48, 1), (-1, 1), (1 << 64, 1),
     (pykcov.SUBSYSTEM_USB, -1), (pykcov.SUBSYSTEM_USB, 1 << 32), (pykcov.SUBSYSTEM_USB | 1, 1)],
)  # fmt: skip
def test_remote_handle_is_einval_where_the_kernels_returns_0(subsystem: int, instance: int) -> None:
    with pytest.raises(pykcov.KcovError) as caught:
        pykcov.remote_handle(subsystem, instance)
    assert caught.value.errno == errno.EINVAL


# What an error says


def test_every_error_says_call_state_and_cause(device: pykcov.Device) -> None:
    def text(call: Callable[[], object]) -> str:
        with pytest.raises(pykcov.KcovError) as caught:
            call()
        error = caught.value
        assert isinstance(error, OSError)
        found = re.fullmatch(r"\[Errno (\d+)\] (\w+(?: KCOV_\w+)?): (.+)", str(error), re.DOTALL)
        assert found, f"not '[Errno N] call: cause': {error}"
        assert int(found[1]) == error.errno
        return f"{found[2]}: {found[3]}"

    number = str(device.number)

    def says(call: Callable[[], object], *words: str) -> None:
        said = text(call)
        for word in words:
            assert word in said

    says(lambda: device.init_trace(1), "init_trace: 1 words", "2")
    says(device.mmap, "mmap:", number, "init_trace")
    says(device.enable, "enable:", number, "init_trace")
    says(lambda: device.remote_enable(area_size=16), "remote_enable:", number, "init_trace")
    says(device.disable, "disable:", number)
    device.init_trace(64)
    says(lambda: device.init_trace(64), "init_trace:", number, "64 words")
    says(lambda: device.mmap(8), "mmap:", "8 bytes", "512")
    says(lambda: device.enable(9), "enable:", "9")
    says(device.disable, "disable:", number, "not enabled")
    says(lambda: device.ioctl(0x6399), "ioctl:", "0x6399")
    says(lambda: device.ioctl(0x40186366, b"abc"), "ioctl", "3 bytes")
    says(lambda: device.remote_enable(area_size=1), "remote_enable:", "1 words")
    says(lambda: device.remote_enable(area_size=9, handles=[0]), "remote_enable:", "handle", "0x0")
    says(
        lambda: device.remote_enable(area_size=9, common_handle=1 << 50), "remote_enable:", "common"
    )
    too_many = range(1, 0x10002)
    says(lambda: device.remote_enable(area_size=9, handles=too_many), "65537 handles", "65536")
    device.remote_enable(area_size=16, handles=[0x42])
    says(device.enable, "enable:", number, "remote")
    with pykcov.open() as other:
        other.init_trace(64)
        says(
            lambda: other.remote_enable(area_size=16, handles=[1]),
            "remote_enable: this task already owns a remote device", number, "0x42",
        )  # fmt: skip
        device.disable()
        device.enable()
        says(other.enable, "enable: this task already owns a local device", number)
        says(device.enable, "enable:", number, "local")
        device.disable()
    says(other.enable, "enable:", "closed")


# Annotations


class Awkward:
    """An object that raises whatever one asks of it."""

    def __index__(self) -> int:
        raise RuntimeError("__index__")

    __int__ = __bool__ = __index__  # type: ignore[assignment]

    def __hash__(self) -> int:
        raise RuntimeError("__hash__")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("__eq__")

    def __repr__(self) -> str:
        raise RuntimeError("__repr__")

    __str__ = __repr__


class Exits:
    def __index__(self) -> int:
        raise SystemExit(3)

    __repr__ = __index__  # type: ignore[assignment]


class AwkwardInt(int):
    """A number that raises when it is compared, hashed, shown or turned into an int."""

    def _raise(self, *args: object) -> Any:
        raise RuntimeError("an int")

    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __hash__ = _raise  # type: ignore[assignment]
    __index__ = __int__ = __bool__ = __repr__ = __str__ = __format__ = _raise


class Surrogate:
    def __repr__(self) -> str:
        return "\udcff" * 200


NOT_HANDLES: list[tuple[str, Callable[[], Any]]] = [
    ("None", lambda: None),
    ("a string", lambda: "5"),
    ("bytes", lambda: b"5"),
    ("-1", lambda: -1),
    ("2**64", lambda: 2**64),
    ("2**1000", lambda: 2**1000),
    ("a huge number", lambda: 1 << 50_000),  # more digits than str() of an int may have
    ("a float", lambda: 5.0),
    ("nan", lambda: float("nan")),
    ("a list", lambda: [5]),
    ("an object", object),
    ("a type", lambda: int),
    ("an object that raises", Awkward),
    ("an object that exits", Exits),
    ("an int that raises", lambda: AwkwardInt(6)),
    ("a surrogate", Surrogate),
]


@pytest.mark.parametrize("listening", [False, True], ids=["nobody listens", "somebody listens"])
@pytest.mark.parametrize("filter_", ["always", "error"])
@pytest.mark.parametrize(("name", "make"), NOT_HANDLES, ids=[name for name, _ in NOT_HANDLES])
def test_annotations_never_raise_whatever_they_are_given(
    sized: pykcov.Device, name: str, make: Callable[[], Any], filter_: Any, listening: bool
) -> None:
    if listening:
        sized.remote_enable(area_size=16, handles=[5])
    ran: list[str] = []
    with warnings.catch_warnings(record=filter_ == "always") as seen:
        warnings.simplefilter(filter_)
        pykcov.remote_start(make())
        ran.append("start")
        pykcov.remote_stop()
        with pykcov.remote(make()):
            ran.append("with")
        with pytest.raises(LookupError, match="mine"), pykcov.remote(make()):
            raise LookupError("mine")
    assert ran == ["start", "with"]
    if seen is not None and "int that raises" not in name:
        texts = [w for w in seen if issubclass(w.category, pykcov.KcovWarning)]
        assert texts, "what cannot be a handle gives a KcovWarning"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pykcov.remote_start(5)  # nothing was left open or out of step
        pykcov.remote_stop()
    if listening:
        sized.disable()


def test_a_bool_and_an_int_subclass_are_the_numbers_that_they_are(sized: pykcov.Device) -> None:
    class Handle(int):
        pass

    area = sized.mmap()
    sized.remote_enable(area_size=16, handles=[1, 6])
    for handle in (True, Handle(6)):
        before = area[0]
        with pykcov.remote(handle):
            area[63] = before
        assert area[0] > before
    sized.disable()


def test_handle_0_is_silent(sized: pykcov.Device) -> None:
    """0 is "none": what common_handle() says where there is none can be passed on as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pykcov.remote_start(pykcov.common_handle())
        pykcov.remote_stop()
        with pykcov.remote(0):
            pass
