"""What every case of the contract is given."""

from __future__ import annotations

import pytest

from conformance import marks
from conformance.backend import DRIVERS, KERNEL, TASKS, Driver


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On the kernel's device, leave out the cases of what only pykcov has."""
    if KERNEL:
        left_out = [item for item in items if item.get_closest_marker("embedded")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def known_marks() -> None:
    """Find the PCs of the marks while no device is enabled."""
    if KERNEL:
        marks.pcs()


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each case runs by the named methods and by the ioctl numbers."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["thread"] if KERNEL else sorted(TASKS))
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the tasks in a case: a thread's base context, or a Context that runs."""
    return request.param  # type: ignore[no-any-return]
