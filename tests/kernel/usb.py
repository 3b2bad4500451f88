"""USB buses without hardware (dummy_hcd), and gadgets to plug into them.

The work of a bus is done by hub_event, in a section of the handle `remote_handle(SUBSYSTEM_USB, bus)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from conformance.backend import eventually

CONFIGURATIONS = Path("/sys/kernel/config/usb_gadget")


class Bus:
    """The bus of controller `number` and a gadget for it."""

    def __init__(self, number: int) -> None:
        controller = Path(f"/sys/devices/platform/dummy_hcd.{number}")
        (name,) = [path.name for path in controller.glob("usb*")]
        self.number = int(name.removeprefix("usb"))
        self._plugged = Path(f"/sys/bus/usb/devices/{self.number}-1:1.0")
        self._controller = f"dummy_udc.{number}"
        self._gadget = CONFIGURATIONS / f"g{number}"
        if not self._gadget.exists():
            self._make_gadget()

    def _make_gadget(self) -> None:
        gadget = self._gadget
        for part in ("strings/0x409", "configs/c.1", "functions/SourceSink.0"):
            (gadget / part).mkdir(parents=True)
        (gadget / "idVendor").write_text("0x1209")
        (gadget / "idProduct").write_text("0x0001")
        (gadget / "strings/0x409/product").write_text("pykcov")
        (gadget / "configs/c.1/SourceSink.0").symlink_to(gadget / "functions/SourceSink.0")

    def plug(self) -> None:
        """Plug the gadget in, and wait until its interface is there."""
        (self._gadget / "UDC").write_text(self._controller)
        eventually(self._plugged.exists, "nothing was plugged in")

    def unplug(self) -> None:
        (self._gadget / "UDC").write_text("\n")
        eventually(lambda: not self._plugged.exists(), "it is still plugged in")

    def cycle(self) -> None:
        """Plug in and unplug."""
        self.plug()
        self.unplug()


def settled(count: Callable[[], int]) -> int:
    """Wait until a count is steady and return it: a section arrives when hub_event returns, after what it did shows."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < 1.5:  # a plug is debounced for 0.6 s, on an idle machine
        time.sleep(0.02)
        if count() != last:
            last, since = count(), time.monotonic()
    return last
