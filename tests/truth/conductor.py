"""Writes main(): it owns the remote devices, starts everything and waits for everything."""

from __future__ import annotations

from dataclasses import dataclass

from .phrases import Place
from .scenario import SPARE, Scenario

HELPERS = """\
def resume(g, times):
    x = 0
    try:
        for i in range(times):
            x = next(g, i)
    except Exception:
        x = 9
    return x
def drive(co, times):
    for i in range(times):
        try:
            co.send(None)
        except StopIteration:
            return True
    return False
async def walk(key, x):
    for i in range(4):
        y = await Hop()
        x += thrice(i)
    return x
def worker(q):
    job = q.get()
    while job is not None:
        try:
            with pykcov.remote(job[0]):
                job[1](job[2], job[3])
        except Exception:
            x = 1
        q.task_done()
        job = q.get()
def straddle(handle, here, go, x):
    pykcov.remote_start(handle)
    x = thrice(x)
    here.set()
    go.wait()
    x = thrice(x)
    pykcov.remote_stop()
    with pykcov.remote(handle):
        x = thrice(x, 2)
"""


class Main:
    """Writes main(): it owns the remote devices, and starts and ends everything."""

    def __init__(self, scenario: Scenario, devices: list[RemoteDevice]) -> None:
        self.scenario = scenario
        self.rng = scenario.rng
        self.devices = devices
        self.place = Place(vars=("x",))
        self.spare = list(SPARE)

    def add(self, text: str) -> None:
        self.scenario.add(self.place, text)

    def write(self) -> None:
        s = self.scenario
        s.begin_actor()
        s.add(Place(0), "def main():")
        self.add('key = "m"')
        self.add(f"x = {self.rng.randrange(20)}")
        for i in range(2):
            self.add(
                f'w{i} = threading.Thread(target=worker, args=(QUEUES[{i}],), name="worker{i}")'
            )
            self.add(f"w{i}.start()")
        for device in self.devices:
            self.add(f'{device.name} = device("{device.name}", {device.size}, {s.scope()}, '
                     f"sections={device.sections})")  # fmt: skip
            self.add(f"own_{device.name} = contextvars.copy_context()")
        for _ in range(self.rng.randrange(1, 4)):
            self.phase()
        for device in self.devices:
            self.disable(device)
        if self.rng.random() < 0.3:
            s.block(self.place)
        for i in range(2):
            self.add(f"QUEUES[{i}].put(None)")
            self.add(f"w{i}.join()")
        self.add("return x % 101")

    def phase(self) -> None:
        for device in self.devices:
            if not device.enabled and self.rng.random() < 0.8:
                self.enable(device)
        for _ in range(self.rng.randrange(1, 4)):
            found = self.scenario.actor()
            device = self.rng.choice(self.devices)
            if found is not None and self.rng.random() < 0.5:
                name = self.scenario.take(found, False, True)
                self.add(f"x = own_{device.name}.run({name}, {self.scenario.key()}, x)")
            elif self.spare and self.rng.random() < 0.4:
                self.scenario.collect(self.place, f"[{self.spare.pop()}], ")
            else:
                self.scenario.block(self.place)
        for device in self.devices:
            if device.enabled and self.rng.random() < 0.3:
                self.straddle(device)
            elif self.rng.random() < 0.3:
                self.disable(device)

    def enable(self, device: RemoteDevice) -> None:
        device.enabled = True
        handles = ", ".join(device.handles)
        self.add(f"own_{device.name}.run({device.name}.remote_enable, area_size={device.area_size}, "
                 f"handles=[{handles}], common_handle={device.common})")  # fmt: skip

    def disable(self, device: RemoteDevice) -> None:
        if device.enabled:
            device.enabled = False
            self.add(f"own_{device.name}.run({device.name}.disable)")

    def straddle(self, device: RemoteDevice) -> None:
        """A section is open while its device is disabled, and perhaps enabled again."""
        self.add("here = threading.Event()")
        self.add("go = threading.Event()")
        handle = self.rng.choice(device.handles)
        self.add(f"ts = threading.Thread(target=straddle, args=({handle}, here, go, x))")
        self.add("ts.start()")
        self.add("here.wait()")
        self.disable(device)
        if self.rng.random() < 0.6:
            self.enable(device)
        self.add("go.set()")
        self.add("ts.join()")


@dataclass
class RemoteDevice:
    """A device that main() enables remotely."""

    name: str
    size: int
    area_size: int
    handles: list[str]
    common: int
    sections: int
    enabled: bool = False
