"""What `make demo` runs: the lines of ONE request, out of a job server that is busy with others.

The server, the clients that keep it busy and this client are one process, so the requests share
its threads: the workers and the scheduler work for all of them in turn. Each request that is
collected here is checked against what its kind of document implies. Exit status: 0 if all holds.
"""

import argparse
import os
import sys
import textwrap
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pykcov
import truth
from jobserver import JobServer
from jobserver.documents import read
from load import DOCUMENTS, Load, ask, documents

SOURCE = ["jobserver", "tomllib", "configparser", "html", "_markupbase", "email"]
HERE = Path(__file__).resolve().parent
STDLIB = Path(os.__file__).resolve().parent


@dataclass(frozen=True)
class Kind:
    """A kind of request, and what its documents imply: they were chosen by hand to do so."""

    name: str
    documents: tuple[str, ...]
    files: tuple[str, ...]  # where its parser lives
    runs: tuple[str, ...]  # functions that these documents need
    never: tuple[str, ...]  # functions that others of their kind need, but not these

    def texts(self) -> list[str]:
        return [(DOCUMENTS / name).read_text("utf-8") for name in self.documents]

    def work(self) -> None:
        """What the workers do for such a request, in this thread."""
        for text in self.texts():
            read(self.name, text)

    def does_the_work(self, file: str) -> bool:
        return short(file).startswith((*self.files, "jobserver/documents.py"))


KINDS = [
    Kind(
        "toml",
        ("menu.toml", "links.toml"),
        ("tomllib/",),
        ("parse_array", "parse_multiline_str", "parse_literal_str"),
        ("match_to_number", "match_to_datetime", "parse_inline_table"),
    ),
    Kind(
        "ini",
        ("backup.ini", "backup.ini"),
        ("configparser.py",),
        ("RawConfigParser._read", "BasicInterpolation.before_get"),
        ("DuplicateOptionError.__init__", "ParsingError.__init__"),
    ),
    Kind(
        "html",
        ("article.html", "article.html"),
        ("html/", "_markupbase.py"),
        ("HTMLParser.parse_starttag", "HTMLParser.handle_startendtag"),
        ("HTMLParser.parse_html_declaration", "ParserBase.parse_comment", "HTMLParser.parse_pi"),
    ),
    Kind(
        "email",
        ("note.eml", "note.eml"),
        ("email/",),
        ("FeedParser._parse_headers", "get_mailbox"),
        ("Message.get_boundary", "get_encoded_word", "decode_b"),
    ),
]


# Collecting one request


def collect(
    port: int, kind: str, texts: list[str], meanwhile: Callable[[], object] = lambda: None
) -> pykcov.Trace:
    """Sends one request and collects it. The collection stays open while `meanwhile` runs."""
    handle = uuid.uuid4().int >> 64  # any 64 bits that nobody else has chosen
    with pykcov.collect(handles=[handle], source=SOURCE) as c:
        ask(port, kind, texts, handle)
        meanwhile()
    return c.trace


def collect_all_at_once(port: int, meanwhile: Callable[[], object]) -> list[pykcov.Trace]:
    """One request of each kind, each collected by a thread of its own, at the same time."""
    traces: dict[str, pykcov.Trace] = {}
    ready = threading.Barrier(len(KINDS))

    def client(kind: Kind) -> None:
        ready.wait()
        traces[kind.name] = collect(port, kind.name, kind.texts(), meanwhile)

    threads = [threading.Thread(target=client, args=(kind,)) for kind in KINDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [traces[kind.name] for kind in KINDS]


# Showing it


@cache
def short(file: str) -> str:
    for folder in (HERE, STDLIB):
        if Path(file).is_relative_to(folder):
            return Path(file).relative_to(folder).as_posix()
    return file


def ranges(lines: Iterable[int]) -> str:
    """85, 87-90, 94"""
    runs: list[list[int]] = []
    for line in sorted(lines):
        if runs and line == runs[-1][-1] + 1:
            runs[-1][1:] = [line]
        else:
            runs.append([line])
    return ", ".join("-".join(map(str, run)) for run in runs)


def show(trace: pykcov.Trace) -> None:
    """Each section: its thread, and by file and function the lines and the number of events."""
    for section in sorted(trace.sections, key=lambda section: section.began_ns):
        pcs = trace.pcs[section.start : section.end]
        if not pcs:
            continue  # this client's own: its code is not in SOURCE
        lasted = (section.ended_ns - section.began_ns) / 1e6
        print(f"\n{section.thread}: {len(pcs)} events, {lasted:.1f} ms")
        functions: dict[tuple[str, str], list[pykcov.Location]] = {}
        for location in map(pykcov.symbolize, pcs):
            functions.setdefault((location.file, location.function), []).append(location)
        for file in dict.fromkeys(file for file, _ in functions):
            print(f"  {short(file)}")
            for (where, function), locations in functions.items():
                if where == file:
                    lines = ranges({at.line for at in locations if at.kind == "line"})
                    head = f"    {function:<34} {len(locations):>5}  "
                    print(textwrap.fill(head + lines, 100, subsequent_indent=" " * 45))


# Checking it


@dataclass(frozen=True)
class Quiet:
    """What was collected while the server did nothing else."""

    alone: pykcov.Trace  # the same request
    others: pykcov.Trace  # all documents of its kind
    settrace: dict[str, set[int]]  # lines of the work, without pykcov


def check(kind: Kind, trace: pykcov.Trace, quiet: Quiet) -> bool:
    """Holds the trace of a request under load against four truths, and prints what it found."""
    lines = trace.lines()
    results = [
        only_its_parser(kind, lines),
        same_as_alone(trace, quiet.alone),
        same_as_settrace(kind, lines, quiet.settrace),
        markers(kind, trace, quiet.others),
    ]
    for right, text in results:
        print(f"{verdict(right)}  {kind.name:<6} {text}")
    return all(right for right, _ in results)


def verdict(good: bool) -> str:
    return "PASS" if good else "FAIL"


def only_its_parser(kind: Kind, lines: dict[str, set[int]]) -> tuple[bool, str]:
    others = [other for other in KINDS if other is not kind]
    foreign = {
        short(file): len(found)
        for file, found in lines.items()
        if found and short(file).startswith(tuple(name for other in others for name in other.files))
    }
    names = ", ".join(other.name for other in others)
    return not foreign, f"lines of the readers of {names}: {foreign or 'none'}"


def same_as_alone(trace: pykcov.Trace, alone: pykcov.Trace) -> tuple[bool, str]:
    """The same lines of the same files, and section by section the same events in order."""
    if trace.dropped or alone.dropped:
        return False, f"dropped events: {trace.dropped}, alone {alone.dropped}"
    if (mine := trace.lines()) != (quiet := alone.lines()):
        more, less = beyond(mine, quiet), beyond(quiet, mine)
        return False, f"not the lines that it executes alone: more {more}, less {less}"
    # Which worker takes which job, and who is ready first, is chance: compare without names.
    sections, expected = ordered_sections(trace), ordered_sections(alone)
    if sections != expected:
        return False, f"the order differs: {first_difference(sections, expected)}"
    if sum(map(len, sections)) != len(trace.pcs):
        return False, f"{len(trace.pcs)} events, but {sum(map(len, sections))} in sections"
    found = sum(map(len, mine.values()))
    return True, (
        f"as when it runs alone: {found} lines in {len(mine)} files, "
        f"{len(trace.pcs)} events in order in {len(sections)} sections"
    )


def beyond(some: dict[str, set[int]], others: dict[str, set[int]]) -> dict[str, str]:
    """The lines of `some` that `others` do not have, for print."""
    left = {file: lines - others.get(file, set()) for file, lines in some.items()}
    return {short(file): ranges(lines) for file, lines in left.items() if lines}


def ordered_sections(trace: pykcov.Trace) -> list[list[int]]:
    sections = [list(trace.pcs[section.start : section.end]) for section in trace.sections]
    return sorted(filter(None, sections))  # without this client's own: its code is not in SOURCE


def first_difference(found: list[list[int]], expected: list[list[int]]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} sections, alone {len(expected)}"
    ours, theirs = next((a, b) for a, b in zip(found, expected, strict=True) if a != b)
    at = next(
        (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    context = [pykcov.symbolize(pc) for pc in ours[max(0, at - 1) : at + 1]]
    wanted = [pykcov.symbolize(pc) for pc in theirs[max(0, at - 1) : at + 1]]
    return f"event {at} of {len(ours)} is {context}, alone of {len(theirs)} {wanted}"


def same_as_settrace(
    kind: Kind, lines: dict[str, set[int]], expected: dict[str, set[int]]
) -> tuple[bool, str]:
    found = {file: seen for file, seen in lines.items() if kind.does_the_work(file)}
    if found == expected:
        return True, f"as sys.settrace sees it: {sum(map(len, found.values()))} lines of the work"
    return False, (
        f"not as sys.settrace sees it: more {beyond(found, expected)}, "
        f"less {beyond(expected, found)}"
    )


def markers(kind: Kind, trace: pykcov.Trace, others: pykcov.Trace) -> tuple[bool, str]:
    ran, ran_for_others = functions(trace), functions(others)
    missing = [name for name in kind.runs if name not in ran]
    foreign = [name for name in kind.never if name in ran]
    useless = [name for name in kind.never if name not in ran_for_others]
    if missing or foreign or useless:
        return False, (
            f"must run but did not: {missing}; must not run but did: {foreign}; "
            f"should run for other documents but did not: {useless}"
        )
    return True, f"ran {', '.join(kind.runs)}; did not run {', '.join(kind.never)}"


def functions(trace: pykcov.Trace) -> set[str]:
    return {location.function for location in map(pykcov.symbolize, set(trace.pcs))}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="collect each kind so many times")
    options.add_argument("--clients", type=int, default=4, help="threads that make the load")
    args = options.parse_args()
    began = time.monotonic()
    toml = KINDS[0]
    meanwhile: Counter[str] = Counter()

    with JobServer(workers=4) as server:
        load = Load(server.port, args.clients)  # has asked for each document once: all is warm
        quiet = {
            kind.name: Quiet(
                alone=collect(server.port, kind.name, kind.texts()),
                others=collect(server.port, kind.name, documents(kind.name)),
                settrace=truth.lines_of(kind.work, kind.does_the_work),
            )
            for kind in KINDS
        }
        with load:
            port = server.port
            one = collect(port, "toml", toml.texts(), lambda: meanwhile.update(load.wait_for(20)))
            in_turn = [
                (kind, collect(port, kind.name, kind.texts(), lambda: load.wait_for(5)))
                for _ in range(args.rounds)
                for kind in KINDS
            ]
            at_once = collect_all_at_once(port, lambda: load.wait_for(5))

    print(f"One request, {' and '.join(toml.documents)}, out of a busy server:")
    show(one)
    answered = ", ".join(f"{count} {name}" for name, count in sorted(meanwhile.items()))
    print(f"\nRequests that the server answered for others meanwhile: {answered}\n")
    good = check(toml, one, quiet["toml"])
    print("\nRequests of all kinds, one after another:")
    for kind, trace in in_turn:
        good &= check(kind, trace, quiet[kind.name])
    print("\nRequests of all kinds at the same time, each collected by a thread of its own:")
    for kind, trace in zip(KINDS, at_once, strict=True):
        good &= check(kind, trace, quiet[kind.name])

    good &= not load.wrong
    total = sum(load.served.values())
    print(
        f"\n{verdict(not load.wrong)}  all {total} answers to others: {load.wrong[:3] or 'right'}"
    )
    print(f"{verdict(good)}  in {time.monotonic() - began:.1f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
