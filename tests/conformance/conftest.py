"""What every case of the contract is given."""

from __future__ import annotations

import pytest

from conformance.backend import DRIVERS, TASKS, Driver


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each case runs by the named methods and by the ioctl numbers."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=sorted(TASKS))
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the tasks in a case: a thread's base context, or a Context that runs."""
    return request.param  # type: ignore[no-any-return]
