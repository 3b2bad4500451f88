"""These tests are for the guest of `make kernel-test`: where they run, a device that is not there is a failure."""

from __future__ import annotations

import os

import pytest

from conformance.marks import DEVICE
from kernel import sides

collect_ignore_glob = [] if DEVICE else ["test_*.py"]

if DEVICE and not os.path.exists(DEVICE):
    raise pytest.UsageError(f"PYKCOV_TEST_DEVICE: there is no {DEVICE}")


@pytest.fixture(autouse=True, scope="session")
def known_events() -> None:
    """Find the PCs of the events while no device is enabled."""
    sides.kernel_events()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the differential test has seen."""
    from kernel import test_differential

    if test_differential.seen:
        terminalreporter.section("both devices")
        for what, number in test_differential.seen.most_common():
            terminalreporter.line(f"{number:8}  {what}")
