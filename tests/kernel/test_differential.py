"""The same random program of calls on pykcov's device and on the kernel's, step by step.

Each side is held to the contract, with the rules of its own (conformance/model.py and rules.py): so nothing may differ but by
the rules, each of which is a row of docs/kernel-differences.md with a test of its own in test_rows.py. The first
difference of a program is put down to the rules that make it.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import pykcov
from conformance import backend, model
from conformance.backend import Fd, ThreadTask
from conformance.model import Mode
from conformance.rules import PYKCOV, Rules
from kernel.actors import Actor, Process, Thread
from kernel.names import function
from kernel.sides import JOBS, QUEUES, SIDES, WORKS, systems
from kernel.vhost import Vhost

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

BIG = 1 << 14  # words
ALL_ONES = (1 << 64) - 1
USB = [pykcov.remote_handle(pykcov.SUBSYSTEM_USB, number) for number in (0x1000, 0x1001)]
HANDLES = [*USB * 4, 0x42, USB[0] | 1 << 40, 2 << 56 | 1, 0]
MANY = [pykcov.remote_handle(pykcov.SUBSYSTEM_USB, number) for number in range(0x2000, 0x2101)]
COMMONS = [0, 1, *[7] * 6, 1 << 32, 1 << 48]

index = st.integers(0, 5)  # of a device, an actor or a worker; taken modulo how many there are

# What was seen in all programs together: conftest.py prints it.
seen: Counter[str] = Counter()


@dataclass(eq=False)
class Pair:
    """One device of each kind."""

    fds: tuple[Fd, Fd]
    devices: tuple[model.Device, model.Device]
    # What was stored in the count words instead of 0, and what each has become since.
    counts: list[int] = field(default_factory=list)
    resting: list[int] = field(default_factory=list)  # the counts, since nobody has it enabled
    # What was read of each area, up to which count. All of it is read again at the end.
    events: list[list[str]] = field(default_factory=lambda: [[], []])
    read: list[int] = field(default_factory=lambda: [0, 0])

    def get_events(self, side: int) -> list[str]:
        start, self.read[side] = self.read[side], self.fds[side].count
        self.events[side] += SIDES[side].events(self.fds[side], start)
        return self.events[side]

    def forget(self) -> None:
        self.events, self.read = [[], []], [0, 0]


@dataclass(eq=False)
class Player:
    actor: Actor
    tasks: tuple[model.Task, model.Task]


@dataclass(eq=False)
class Worker:
    """A background thread of the kernel, and the common handle that its work was given with, here and there."""

    vhost: Vhost
    handle: int
    commons: list[model.Common | None]


class Machine(RuleBasedStateMachine):
    """Each rule is one call on both devices and in both models."""

    def __init__(self) -> None:
        super().__init__()
        self.systems = systems()
        self.pairs: list[Pair] = []
        self.players: list[Player] = []
        self.workers: list[Worker] = []
        self.background = ThreadTask()
        self.servant = tuple(system.begin() for system in self.systems)
        self.differs = False
        seen["programs"] += 1

    # What is done to both sides, in the actor

    def perform(self, what: str, which: int, *arguments: Any) -> list[str]:
        if what == "work":
            WORKS[arguments[0]]()
            return []
        fds = self.pairs[which].fds
        if what == "store":
            for fd in fds:
                if fd.area:
                    fd.area[0] = arguments[0]
            return []
        if what == "remote_enable":
            *handles, area_size = arguments
            return [fd.remote_enable(*handles, area_size=area_size) for fd in fds]
        return [getattr(fd, what)(*arguments) for fd in fds]

    def pair(self, number: int, player: Player | None = None) -> tuple[int, Pair]:
        """A pair that the player may use, by its number and itself."""
        known = list(enumerate(self.pairs))
        if player and isinstance(player.actor, Process):
            # Its descriptors are its own: a device that was closed here meanwhile is not closed there.
            known = [there for there in known if self.may_use(player, there[0])]
        return known[number % len(known)]

    def may_use(self, player: Player, number: int) -> bool:
        device = self.pairs[number].devices[0]
        return isinstance(player.actor, Thread) or (
            number < player.actor.known and not device.closed
        )

    def player(self, number: int) -> Player:
        return self.players[number % len(self.players)]

    def compare(
        self,
        answers: list[str],
        predict: Callable[..., str],
        *states: tuple[Any, Any],
    ) -> list[str]:
        """The answers are those of the two models; return them. `predict` is asked with a system and its states."""
        kernel = [state[1] for state in states]
        before = None if self.differs else copy.deepcopy((self.systems[1], kernel))
        expected = [
            predict(system, *(state[side] for state in states))
            for side, system in enumerate(self.systems)
        ]
        assert answers == expected
        seen["calls"] += 1
        if answers[0] != answers[1]:
            seen["answers that differ"] += 1
            if before is not None:
                self.explain(answers[0], predict, *before)
        return answers

    def explain(
        self, wanted: str, predict: Callable[..., str], system: model.System, states: list[Any]
    ) -> None:
        """Find the fewest rules that make the kernel's contract give pykcov's answer."""
        self.differs = True
        names = [field.name for field in dataclasses.fields(Rules)]
        for number in (1, 2, 3):
            for chosen in itertools.combinations(names, number):
                trial, its = copy.deepcopy((system, states))
                own = {name: getattr(PYKCOV, name) for name in chosen}
                trial.rules = dataclasses.replace(trial.rules, **own)
                if predict(trial, *its) == wanted:
                    seen[f"first difference: {', '.join(chosen)}"] += 1
                    return
        raise AssertionError("no rule makes this difference")

    # Devices

    @initialize()
    def first(self) -> None:
        self.open_device(512)
        self.open_device(BIG)
        for _ in range(2):
            self.adopt(Thread(self.perform))

    def adopt(self, actor: Actor, parent: Player | None = None) -> None:
        tasks = tuple(
            system.begin(parent.tasks[side] if parent else None)
            for side, system in enumerate(self.systems)
        )
        self.players.append(Player(actor, tasks))  # type: ignore[arg-type]

    @precondition(lambda self: len(self.pairs) < 4)
    @rule(size=st.sampled_from([512, BIG, BIG, BIG, 0, 0]))
    def open_device(self, size: int) -> None:
        fds = tuple(side.open() for side in SIDES)
        devices = tuple(system.open() for system in self.systems)
        self.pairs.append(Pair(fds, devices))  # type: ignore[arg-type]
        if size:
            self.init_trace(len(self.pairs) - 1, size)

    @rule(which=index, size=st.sampled_from([0, 1, 512, 1000, BIG, 1 << 28]))
    def init_trace(self, which: int, size: int) -> None:
        number, pair = self.pair(which)
        answers = self.compare(
            self.perform("init_trace", number, size),
            lambda system, device: system.init_trace(device, size),
            pair.devices,
        )
        if answers[0] == "ok":
            self.mmap(number, 8 * size)

    @rule(which=index, length=st.sampled_from([0, 8, 8000, 4096, 4095, 8 * BIG, 8 * BIG - 1]))
    def mmap(self, which: int, length: int) -> None:
        number, pair = self.pair(which)
        self.compare(
            self.perform("mmap", number, length),
            lambda system, device: system.mmap(device, length),
            pair.devices,
        )

    @rule(which=index, who=index, mode=st.sampled_from([0, 0, 0, 0, 0, 2, 1 << 32, -1]))
    def enable(self, which: int, who: int, mode: int) -> None:
        player = self.player(who)
        number, pair = self.pair(which, player)
        before = [fd.count if fd.area else 0 for fd in pair.fds]
        answers = self.compare(
            player.actor("enable", number, mode),
            lambda system, task, device: system.enable(task, device, mode),
            player.tasks,
            pair.devices,
        )
        if answers[0] == "ok" and pair.fds[0].area:
            assert pair.fds[0].count == before[0]
        if answers[1] == "ok" and pair.fds[1].area and not pair.counts:
            assert pair.fds[1].count > before[1] or self.is_full(pair, 1)

    @rule(
        which=index,
        who=index,
        handles=st.lists(st.sampled_from(HANDLES), max_size=3),
        common=st.sampled_from(COMMONS),
        area_size=st.sampled_from([1, 2, 64, 64, 64, 64]),
    )
    def remote_enable(
        self, which: int, who: int, handles: list[int], common: int, area_size: int
    ) -> None:
        player = self.player(who)
        number, pair = self.pair(which, player)
        self.compare(
            player.actor("remote_enable", number, handles, common, area_size),
            lambda system, task, device: system.remote_enable(
                task, device, handles, common, area_size
            ),
            player.tasks,
            pair.devices,
        )

    @rule(which=index, who=index, common=st.sampled_from([0, 7, 7]))
    def remote_enable_well(self, which: int, who: int, common: int) -> None:
        self.remote_enable(which, who, [USB[which % 2]], common, 64)

    @rule(which=index, who=index)
    def remote_enable_with_many_handles(self, which: int, who: int) -> None:
        if which == 5:
            self.remote_enable(which, who, MANY, 0, 64)

    @rule(which=index, who=index, arg=st.sampled_from([0, 0, 0, 1, 1 << 32]))
    def disable(self, which: int, who: int, arg: int) -> None:
        player = self.player(who)
        number, pair = self.pair(which, player)
        self.compare(
            player.actor("disable", number, arg),
            lambda system, task, device: system.disable(task, device, arg),
            player.tasks,
            pair.devices,
        )

    @rule(which=index)
    def disable_by_its_owner(self, which: int) -> None:
        number, pair = self.pair(which)
        for who, player in enumerate(self.players):
            owners = [device.owner for device in pair.devices]
            if self.may_use(player, number) and any(map(owners.__contains__, player.tasks)):
                self.disable(number, who, 0)
                return

    @precondition(lambda self: sum(not pair.devices[0].closed for pair in self.pairs) > 2)
    @rule(which=index)
    def close(self, which: int) -> None:
        number, pair = self.pair(which)
        if number == 0:  # it stays, so that a process always has one
            return
        assert self.perform("close", number) == ["ok", "ok"]
        for system, device in zip(self.systems, pair.devices, strict=True):
            system.close(device)

    # The count word

    def store(self, pair: Pair, number: int, value: int) -> None:
        """Store by the task that collects into it, which is the only other one that would."""
        for player in self.players:
            locals_ = [task.local for task in player.tasks]
            if self.may_use(player, number) and any(map(locals_.__contains__, pair.devices)):
                player.actor("store", number, value)
                break
        else:
            self.perform("store", number, value)
        pair.resting = []
        pair.forget()

    @rule(which=index)
    def start_afresh(self, which: int) -> None:
        number, pair = self.pair(which)
        self.store(pair, number, 0)
        pair.counts = []
        for device in pair.devices:
            device.area = []

    @rule(which=index, value=st.sampled_from([511, 512, 1 << 40, 1 << 63, ALL_ONES - 1, ALL_ONES]))
    def spoil(self, which: int, value: int) -> None:
        """A count that does not fit is a full area."""
        number, pair = self.pair(which)
        if pair.devices[0].size == 512:
            self.store(pair, number, value)
            pair.counts = [value, value]

    # Tasks

    def parent(self, who: int) -> tuple[Player, Thread] | None:
        player = self.player(who)
        return (player, player.actor) if isinstance(player.actor, Thread) else None

    @precondition(lambda self: len(self.players) < 5)
    @rule(who=index)
    def begin(self, who: int) -> None:
        parent = self.parent(who)
        if parent:
            self.adopt(Thread(self.perform, parent[1]), parent[0])

    @precondition(lambda self: all(isinstance(p.actor, Thread) for p in self.players))
    @rule(who=index, often=st.integers(0, 2))
    def fork(self, who: int, often: int) -> None:
        parent = self.parent(who)
        if parent and not often:  # it takes as long as a hundred other calls
            self.adopt(Process(self.perform, parent[1], len(self.pairs)), parent[0])
            seen["forks"] += 1

    @precondition(lambda self: len(self.players) > 2)
    @rule(who=index)
    def end(self, who: int) -> None:
        player = self.players.pop(who % len(self.players))
        for system, task in zip(self.systems, player.tasks, strict=True):
            system.end(task)
        player.actor.end()

    # Work

    @rule(who=index, name=st.sampled_from(sorted(WORKS)))
    def work(self, who: int, name: str) -> None:
        player = self.player(who)
        player.actor("work", 0, name)
        for system, task in zip(self.systems, player.tasks, strict=True):
            system.work(task, [name])  # type: ignore[list-item]

    @precondition(lambda self: len(self.workers) < 3)
    @rule(who=index)
    def employ(self, who: int) -> None:
        """A background thread is given work by a task, with the task's common handle."""
        parent = self.parent(who)
        if parent:
            player, thread = parent
            handle, vhost = thread.task(lambda: (pykcov.common_handle(), Vhost()))
            commons = [
                system.common(task) for system, task in zip(self.systems, player.tasks, strict=True)
            ]
            self.workers.append(Worker(vhost, handle, commons))

    @precondition(lambda self: self.workers)
    @rule(which=index, name=st.sampled_from(sorted(JOBS)))
    def job(self, which: int, name: str) -> None:
        worker = self.workers[which % len(self.workers)]
        self.background(lambda: backend.section(worker.handle, [JOBS[name]]))
        worker.vhost.kick(QUEUES[name])
        for side, system in enumerate(self.systems):
            system.start_common(self.servant[side], worker.commons[side])
            system.work(self.servant[side], [name])  # type: ignore[list-item]
            system.stop(self.servant[side])
        seen["jobs of background threads"] += 1

    # What must hold after every step

    def is_full(self, pair: Pair, side: int) -> bool:
        return pair.fds[side].count >= pair.devices[side].size - 1

    @invariant()
    def areas_hold_the_events_of_the_models(self) -> None:
        for pair in self.pairs:
            for side, device in enumerate(pair.devices):
                if not pair.fds[side].area or pair.counts:
                    continue
                found = pair.get_events(side)
                if self.is_full(pair, side):
                    seen["full areas"] += 1
                    assert found == device.area[: len(found)]
                else:
                    assert found == device.area

    @invariant()
    def a_count_that_does_not_fit_stays_or_becomes_a_pc(self) -> None:
        for pair in self.pairs:
            if not pair.counts or not pair.fds[1].area:
                continue
            assert pair.fds[0].count == pair.counts[0]
            if pair.counts[1] == ALL_ONES != pair.fds[1].count:
                seen["count words that became a PC"] += 1
                assert function(pair.fds[1].count)
                pair.counts[1] = pair.fds[1].count
            assert pair.fds[1].count == pair.counts[1] >= 511

    @invariant()
    def nobody_writes_into_a_device_that_is_not_enabled(self) -> None:
        for pair in self.pairs:
            if any(device.mode is not Mode.INIT for device in pair.devices):
                pair.resting = []
                continue
            counts = [fd.count if fd.area else 0 for fd in pair.fds]
            if pair.resting:
                assert counts == pair.resting
            pair.resting = counts

    def teardown(self) -> None:
        for pair in self.pairs:
            pair.forget()
        self.areas_hold_the_events_of_the_models()
        for player in self.players:
            player.actor.end()
        self.background.end()
        for worker in self.workers:
            worker.vhost.close()
        for pair in self.pairs:
            for fd in pair.fds:
                fd.close()
        pykcov.open().close()  # which frees what was closed while a process had it enabled that was killed


TestDifferential = Machine.TestCase
TestDifferential.settings = settings(
    max_examples=int(os.environ.get("PYKCOV_TEST_SEQUENCES", "200")),
    stateful_step_count=30,
    deadline=None,  # no clocks: a step may wait for a thread
    suppress_health_check=list(HealthCheck),
    phases=[
        Phase.generate
    ],  # thirty steps can be read; to look for fewer takes many minutes in there
)
