"""The tables of docs/benchmarks.md: from the figures of a run to rows with a verdict. Pure."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from compiled import ALONE, BESIDE
from workloads import WORKLOADS

# (cell, figure) -> what its rounds gave
Figures = Mapping[tuple[str, str], Sequence[float]]


class Row(NamedTuple):
    """One row: what was measured, in ``unit``, and what it has to be; None: it is only shown.

    ``least``: what it has to be is the least, not the most.
    """

    title: str
    value: float
    unit: str
    must: float | None = None
    wanted: float | None = None
    digits: int = 2
    note: str = ""
    least: bool = False

    @property
    def verdict(self) -> str:
        """Compare what is printed, not what was rounded away."""
        if self.must is None and self.wanted is None:
            return "shown"
        if self.wanted is not None and self._keeps(self.wanted):
            return "as wanted"
        if self.must is None:
            return "shown"
        return "reached" if self._keeps(self.must) else "**falls short**"

    def _keeps(self, limit: float) -> bool:
        value = round(self.value, self.digits)
        return value >= limit if self.least else value <= limit

    def cells(self) -> list[str]:
        """Return the row's columns as text."""

        def limit(value: float | None) -> str:
            return "–" if value is None else f"{'≥' if self.least else '≤'} {value:g} {self.unit}"

        note = f"; {self.note}" if self.note else ""
        measured = f"{self.value:.{self.digits}f} {self.unit}{note}"
        return [self.title, limit(self.must), limit(self.wanted), measured, self.verdict]


def rows(figures: Figures) -> list[Row]:
    """Return all rows of the costs that were promised, in their order."""

    def median(cell: str, figure: str) -> float:
        return statistics.median(figures[cell, figure])

    def ratio(cell: str, over: str, under: str) -> float:
        # Of the same round, so that what slows the machine down for a while slows both.
        pairs = zip(figures[cell, over], figures[cell, under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    idle = {w: median("idle", w) for w in WORKLOADS}
    ended = {w: median("ended", w) for w in WORKLOADS}
    against = {
        w: (median(f"collect {w}", "pykcov") - 1) / (median(f"coverage {w}", "coverage") - 1)
        for w in WORKLOADS
    }
    floor = {w: ratio(f"collect {w}", "pykcov", "floor") for w in WORKLOADS}
    monitoring = sys.version_info >= (3, 12)
    sections = {
        "`with remote(h)`": median("section", "with") / 1000,
        "`remote_start`, `remote_stop`": median("section", "calls") / 1000,
    }
    found = [
        Row("annotated, nothing was ever collected, against plain Python", _mean(idle.values()), "×", 1.02, 1.0, note=_worst(idle)),
        Row("the same, after a collection has ended", _mean(ended.values()), "×", 1.02, 1.0, note=_worst(ended)),
        Row("`with remote(h)`, no handle in the namespace", median("annotation", "nobody"), "ns", 300, 100, 0),
        Row("the same, another handle is listened to", median("annotation", "another"), "ns", 300, 100, 0),
        Row("the same loop with `with lock:`, a `threading.Lock` that nobody else has", median("annotation", "lock"), "ns", digits=0),
        Row("collecting, extra time against coverage.py's C tracer", _mean(against.values()), "×", 0.75, 0.5, note=_worst(against)),
        *(
            Row(f"collecting against callbacks that do nothing: {WORKLOADS[w].title}", value, "×", 1.25, 1.1)
            for w, value in floor.items()
        ),
        *(
            Row(
                f"an event in a function of 2,000 lines against 20, {kind} lines",
                ratio("length", f"{kind} 2000", f"{kind} 20"),
                "×", 2, 1,
                note=f"{median('length', f'{kind} 20'):.0f} ns in the short one",
            )
            for kind in ("short", "branchy")
        ),
        Row(
            "what the 3 other threads pay while one collects",
            median("collect threads", "pykcov others"),
            "×",
            None if monitoring else 1.05,
            None if monitoring else 1.0,
            note=f"callbacks that do nothing: {median('collect threads', 'floor others'):.2f} ×",
        ),
        *(
            Row(f"a section that is listened to, empty, {how}", value, "µs", 10, 3, 1)
            for how, value in sections.items()
        ),
        Row("a section with the two events of an empty function", median("section", "with events") / 1000, "µs", digits=1),
        *(
            Row(f"a section whose listener is another process, empty, {how}", median("elsewhere", key) / 1000, "µs", 20, 5, 1)
            for how, key in (("`with remote(h)`", "with"), ("`remote_start`, `remote_stop`", "calls"))
        ),
        Row("the same with the two events of an empty function", median("elsewhere", "with events") / 1000, "µs", digits=1),
        Row(
            "sections per second, 2 processes into 2 devices, against 1 into 1",
            median("throughput", "sections"), "×", 1.7, 2,
            note=f"calls of the same function without sections: {median('throughput', 'loops'):.2f} ×",
            least=True,
        ),
        Row(
            "the same, by the CPU time that each of them takes",
            median("throughput", "sections of CPU time"), "×", 1.7, 2,
            note=f"calls of the same function without sections: {median('throughput', 'loops of CPU time'):.2f} ×",
            least=True,
        ),
        Row(
            "move of a full area against a copy of its memory, bandwidth",
            median("move", "of copy"), "×", 0.5, 0.8,
            note=f"{median('move', 'GB/s'):.1f} GB/s",
            least=True,
        ),
        Row("recording into memory that survives its process against private memory", median("recoverable", "of private"), "×", 1.05, 1),
        Row(
            "start-up added to a child process", median("startup", "added"), "ms", 10, 3, 1,
            note=f"of `python -c pass`: {median('startup', 'plain'):.1f} ms",
        ),
        Row("find a handle among 65,536 against among 1: the same again", ratio("find", "many same", "one same"), "×", 1.5, 1, note=_ns(median("find", "many same"))),
        Row("the same, all of them in random order", ratio("find", "many hit", "one hit"), "×", 1.5, 1, note=_ns(median("find", "many hit"))),
        Row("the same, handles that nobody registered", ratio("find", "many miss", "one miss"), "×", 1.5, 1, note=_ns(median("find", "many miss"))),
        Row("`remote_enable` + `disable` of one handle", median("section", "enable") / 1000, "µs", 100, 25, 0),
        Row("the same with one section in between", median("section", "enable, section") / 1000, "µs", digits=0),
        *(
            Row(
                f"`pykcov report` of 10 million PCs, {what}", median("reading", f"{key} s"), "s", 2, 1,
                note=f"{median('reading', f'{key} MB'):.0f} MB; must be ≤ 500",
            )
            for key, what in (("loops", "as of loops"), ("random", "in no order"))
        ),
        *_compiled(figures),
        Row(
            "places of a trace of 2,000,000 PCs of a program in C, against `addr2line` for each PC, speed",
            median("symbols", "of addr2line"), "×", 20, 50,
            note=f"{median('symbols', 's'):.2f} s for 2,000 places",
            least=True,
        ),
        Row("the same without binutils, by pyelftools", median("symbols", "without it"), "×", digits=1),
    ]  # fmt: skip
    return found


def _compiled(figures: Figures) -> list[Row]:
    """Return the rows of compiled probes."""
    states = {
        state: {w: statistics.median(figures[f"compiled {w}", state]) for w in ALONE}
        for state in ("here", "asleep", "elsewhere")
    }
    against = [
        (states["here"][w] - 1) / (statistics.median(figures[f"coverage {w}", "coverage"]) - 1)
        for w in ALONE
    ]
    found = []
    for title, state, must, wanted in (
        ("compiled probes, collecting", "here", (1.6, 1.25), (1.4, 1.15)),
        ("compiled probes, asleep", "asleep", (1.1, 1.03), (1.03, None)),
        ("compiled probes, another thread collects", "elsewhere", (1.45, 1.2), (None, 1.1)),
    ):
        times = states[state]
        worst = max(times, key=lambda w: times[w])
        found += [
            Row(f"{title}: the worst workload", times[worst], "×", must[0], wanted[0], note=worst),
            Row(f"{title}: geometric mean", _mean(times.values()), "×", must[1], wanted[1]),
        ]
    imports = {
        key: statistics.median(figures["importing", key]) for key in ("plain", "first", "cached")
    }
    return [
        *found,
        Row("compiled probes, extra time against coverage.py's C tracer", _mean(against), "×", 0.35, 0.2),
        *(
            Row(
                f"probes of comparison operands, collecting: {title}",
                statistics.median(figures["comparing", what]), "×", *limits,
                note=f"{statistics.median(figures['comparing', f'{what} ns']):.0f} ns a record; while nobody "
                f"collects {statistics.median(figures['comparing', f'{what} idle']):.2f} ×",
            )
            for what, title, limits in (
                ("sort", "insertion sort", (1.6, 1.3)),
                ("dense", "nothing but comparisons", (None, None)),
            )
        ),
        *_beside_atheris(figures),
        Row("wake and sleep of 10,000 sites", statistics.median(figures["waking", "both"]), "µs", 50, 15, 0),
        Row("import with compiled probes, the first time, 1,000 lines", imports["first"], "ms", digits=1, note=f"plain, from its .pyc: {imports['plain']:.1f} ms"),
        Row("the same from the cache, against plain", imports["cached"] / imports["plain"], "×", None, 1.1),
    ]  # fmt: skip


def _beside_atheris(figures: Figures) -> list[Row]:
    """Return the row of lines and comparisons against Atheris, none where that is not installed."""
    overheads = [
        [statistics.median(figures[f"{who} {w}", "time"]) - 1 for w in BESIDE]
        for who in ("both", "atheris")
    ]
    if math.isnan(sum(overheads[1])):
        return []
    ratios = [max(ours, 0.001) / theirs for ours, theirs in zip(*overheads, strict=True)]
    title = "lines and operands of comparisons, extra time against Atheris's of branches and comparisons"
    return [Row(title, _mean(ratios), "×", 0.5, 0.25)]


def _ns(value: float) -> str:
    return f"{value:.0f} ns among 65,536"


def _mean(values: Iterable[float]) -> float:
    """Return the geometric mean; what is below the noise counts as next to nothing."""
    return math.exp(statistics.fmean(math.log(max(value, 0.001)) for value in values))


def _worst(values: Mapping[str, float]) -> str:
    worst = max(values, key=lambda w: values[w])
    return f"worst {values[worst]:.2f} ({worst})"


def by_workload(figures: Figures) -> list[list[str]]:
    """Return a row for each workload: times as multiples of plain Python's, and ns for an event."""
    found = []
    for name, workload in WORKLOADS.items():
        cell = f"collect {name}"
        middle = [statistics.median(figures[cell, key]) for key in ("floor", "pykcov")]
        middle.append(statistics.median(figures[f"coverage {name}", "coverage"]))
        found.append(
            [
                f"{name}: {workload.title}",
                *(f"{value:.2f} ×" for value in middle),
                f"{statistics.median(figures[cell, 'pykcov ns']):.0f} ns",
                *(
                    f"{statistics.median(figures[f'compiled {name}', key]):{form}}"
                    if name in ALONE
                    else "–"
                    for key, form in (("here", ".2f"), ("asleep", ".2f"), ("ns", ".0f"))
                ),
            ]
        )
    return found


def part(figures: Figures, version: str) -> str:
    """Return the part of docs/benchmarks.md that is about this Python."""
    return "\n".join(
        [
            f"## Python {version}",
            "",
            *_markdown(["", "must", "wanted", "measured", "verdict"], [r.cells() for r in rows(figures)]),
            "",
            "Time of each workload, plain Python = 1:",
            "",
            *_markdown(
                ["workload", "callbacks that do nothing", "pykcov", "coverage.py", "an event of pykcov's",
                 "compiled probes, collecting", "asleep", "ns an event"],
                by_workload(figures),
            ),
            "",
        ]
    )  # fmt: skip


def _markdown(head: list[str], body: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def replace_part(text: str, new: str) -> str:
    """Return the document with the part of the same Python (3.X) replaced, or added in its order."""

    def key(section: str) -> tuple[int, ...]:
        version = section.split()[2].split(".")
        return int(version[0]), int(version[1])

    head, *parts = text.split("\n## Python ")
    every = {key(section): section for section in (f"## Python {p}" for p in parts)}
    every[key(new)] = new
    ordered = [every[k].strip("\n") + "\n" for k in sorted(every)]
    return "\n".join([head.rstrip("\n") + "\n", *ordered])
