"""These tests are for the guest of `make kernel-test`: where they run, a device that is not there is a failure."""

from __future__ import annotations

import os

import pytest

from conformance.marks import DEVICE

collect_ignore_glob = [] if DEVICE else ["test_*.py"]

if DEVICE and not os.path.exists(DEVICE):
    raise pytest.UsageError(f"PYKCOV_TEST_DEVICE: there is no {DEVICE}")
