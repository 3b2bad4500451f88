"""A background thread of the kernel that is annotated with a common handle: the worker of /dev/vhost-net.

The worker does what virtual machines ask of their network card, each job in a section of the handle that the thread had
which made it the owner.
"""

from __future__ import annotations

import fcntl
import os
import struct

SET_OWNER = 0xAF01
SET_VRING_KICK = 0x4008AF20  # struct vhost_vring_file: index of the queue, descriptor
RECEIVE, SEND = (
    0,
    1,
)  # the queues; the functions that serve them are handle_rx_kick and handle_tx_kick
UNBOUND = -1


class Vhost:
    """A vhost-net device of the thread that makes it, and of its common handle."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(self._fd, SET_OWNER)

    def kick(self, queue: int) -> None:
        """Have the worker serve a queue, and wait until it has: one section."""
        ready = os.eventfd(1)
        try:  # an event that has happened is a job; the end of its binding waits for the worker
            self._bind(queue, ready)
            self._bind(queue, UNBOUND)
        finally:
            os.close(ready)

    def _bind(self, queue: int, fd: int) -> None:
        fcntl.ioctl(self._fd, SET_VRING_KICK, struct.pack("=Ii", queue, fd))

    def close(self) -> None:
        os.close(self._fd)
