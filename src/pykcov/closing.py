"""The end of a device, pykcov's or the kernel's: of a ``with`` statement, or of an object that was forgotten."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Closing"]


class Closing(ABC):
    """What is closed at the end of a ``with`` statement, and warns if it is forgotten."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether close() was called."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    @abstractmethod
    def _check_open(self, call: str) -> None:
        """Raise KcovError EBADF if it is closed."""

    def __enter__(self) -> Self:
        self._check_open("with")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()
