"""Where pykcov and the kernel answer differently on purpose, as switches of one contract.

Each has its row in docs/kernel-differences.md, and a test in tests/kernel that sees the difference.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """What a device does where the two differ; as it is, pykcov's own."""

    max_handles: int = 0x10000
    any_value_in_handles: bool = True  # but 0; the kernel takes a USB bus's only
    common_handle_bits: int = 48
    section_area: tuple[int, int] = (2, (2**31 - 1) // 8)  # words
    local_beside_remote: bool = True  # in one task
    any_size_can_be_mapped: bool = True
    length_is_exact: bool = True  # of a mapping; the kernel rounds it up to pages
    stale_handles_match_nothing: bool = True
    inherited_handle_is_kept: bool = True  # by a disable, and by a remote_enable that fails
    own_calls_are_left_out: bool = True
    every_count_is_safe: bool = True


PYKCOV = Rules()
LINUX = Rules(
    max_handles=0x100,
    any_value_in_handles=False,
    common_handle_bits=32,
    section_area=(0, 2**32 - 1),
    local_beside_remote=False,
    any_size_can_be_mapped=False,
    length_is_exact=False,
    stale_handles_match_nothing=False,
    inherited_handle_is_kept=False,
    own_calls_are_left_out=False,
    every_count_is_safe=False,
)
