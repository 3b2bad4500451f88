"""The examples run, as users run them: each in a process of its own, on this interpreter."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(script: str, *args: str, timeout: float = 120) -> str:
    """Runs one example, in the namespace of this run of the tests: others may use handle 0x42."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stderr == ""
    return done.stdout


def places(output: str) -> list[str]:
    """What stands beside each PC; every line is one PC of Python code and its place."""
    lines = output.splitlines()
    assert all(re.fullmatch(r"0x7[0-9a-f]{15}  .+", line) for line in lines), output
    return [line.split(maxsplit=1)[1] for line in lines]


def line_with(script: str, text: str) -> int:
    """The number of the only line of an example with this text."""
    source = (EXAMPLES / script).read_text("utf-8").splitlines()
    (number,) = [n for n, line in enumerate(source, 1) if text in line]
    return number


def test_quick_prints_the_lines_of_one_of_the_pools_requests() -> None:
    expected = [
        line_with("quick.py", text)
        for text in (
            "total = sum",
            "if customer",
            "return total * 8",
            "with pykcov.collect",
            '"member").result()',
        )
    ]
    assert run("quick.py") == f"{expected}\n"


def test_local_prints_what_its_own_thread_executed_in_order() -> None:
    steps = ("try:", "return len", "except OSError", "return -1")
    entry, after = line_with("local.py", "def target"), line_with("local.py", "n = cover[0]")
    assert places(run("local.py")) == [
        f"line  main, line {line_with('local.py', 'target(-1)')}",
        f"entry target, line {entry}",
        *(f"line  target, line {line_with('local.py', text)}" for text in steps),
        f"line  main, line {after}",
    ]


def test_remote_prints_what_the_annotated_background_thread_executed() -> None:
    found = places(run("remote.py"))
    call = f"line  background, line {line_with('remote.py', 'hub_event(port)')}"
    # Where a section starts: each is one event of the thread, and a `with` ends on its first line.
    sections = "\n".join(found).split(call)[1:]
    assert len(sections) >= 2
    entry = f"entry hub_event, line {line_with('remote.py', 'def hub_event')}"
    test = f"line  hub_event, line {line_with('remote.py', 'if port % 2')}"
    answers = [
        f"line  hub_event, line {line_with('remote.py', text)}"
        for text in ('return "idle"', 'return "connected"')
    ]
    end = f"line  background, line {line_with('remote.py', 'with pykcov.remote')}"
    first = sections[0].split("\n")[1:4]
    assert first[:2] == [entry, test]
    assert first[2] in answers
    turn = answers.index(first[2])
    for number, section in enumerate(sections):
        expected = [entry, test, answers[(turn + number) % 2], end]
        assert section.strip("\n").split("\n") == expected


def test_remote_prints_nothing_of_its_own_thread() -> None:
    assert not [place for place in places(run("remote.py")) if " main," in place]


@pytest.mark.parametrize("clients", [1, 4])
def test_the_demo_finds_the_lines_of_one_request_of_a_busy_server(clients: int) -> None:
    output = run("demo.py", "--rounds", "1", "--clients", str(clients))
    assert "FAIL" not in output
    assert output.splitlines()[-1].startswith("PASS  in ")
    # One request by itself, then each kind, then each kind at the same time: four checks of each.
    assert len(re.findall("^PASS  (?:toml|ini|html|email)", output, re.MULTILINE)) == 4 * 9
    listing = output[: output.index("Requests that the server answered for others")]
    assert "parse_array" in listing
    assert "match_to_number" not in listing
    assert len(re.findall(r"^worker-\d: ", listing, re.MULTILINE)) == 2
    assert len(re.findall("^scheduler: ", listing, re.MULTILINE)) == 3


def test_tracking_gets_through_the_gates_and_a_thousand_times_as_many_blind_tries_do_not() -> None:
    found = re.fullmatch(
        r"b'VOCKRQSTtransmit.*' got through after (\d+) tries\n", run("tracking.py")
    )
    assert found
    tries = 1000 * int(found[1])
    assert run("tracking.py", "--blind", str(tries)) == f"not through after {tries} tries\n"
