"""stats, top and events: figures of the machine, ids as in it, what happened in order."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

import living
from needs import needs
from terminals import Terminal
from viscum.cli.watching.processes import IdMap
from viscum.cli.watching.top import chosen, clock
from viscum.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import callers
    from places import Place

pytestmark = needs("userns")
TIMEOUT = 30


@pytest.fixture
def place(caller: callers.Caller, folder: pathlib.Path) -> Iterator[living.Place]:
    yield from living.places(caller, folder)


BUSY = "while :; do :; done & exec sleep 600"


def test_stats_are_those_of_the_machine(place: living.Place) -> None:
    place("run", "-d", "--name", "busy", "--", "sh", "-c", BUSY)
    place("run", "-d", "--name", "idle", "--", "sleep", "600")
    rows = {
        row["Name"]: row for row in json.loads(place("stats", "--no-stream", "--format", "json"))
    }
    assert set(rows) == {"busy", "idle"}
    assert rows["busy"]["CPU"] > rows["idle"]["CPU"]
    assert rows["busy"]["CPUSeconds"] > rows["idle"]["CPUSeconds"]
    assert (rows["busy"]["PIDs"], rows["idle"]["PIDs"]) == (2, 1)
    assert 0 < rows["idle"]["Memory"] < 64 << 20
    lines = place("stats", "--no-stream", "busy").splitlines()
    assert lines[0].split()[:3] == ["ID", "NAME", "CPU"]
    assert len(lines) == 2
    place("stop", "-t", "0", "idle")
    shown = place("stats", "--no-stream", "--all", "--format", "{{.Name}} {{.PIDs}}")
    assert shown.splitlines() == ["busy 2", "idle --"]


@needs("root", "memory")
def test_stats_know_the_limit_of_memory(folder: pathlib.Path) -> None:
    import callers

    for place in living.places(callers.make_caller("root"), folder):
        text = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 600"
        place("run", "-d", "--name", "m", "-m", "64m", "--", "sh", "-c", text)
        end = time.monotonic() + TIMEOUT
        while int(place("stats", "--no-stream", "--format", "{{.Memory}}")) < 20_000_000:
            assert time.monotonic() < end
        (row,) = json.loads(place("stats", "--no-stream", "--format", "json"))
        assert row["MemoryLimit"] == 64 << 20
        assert row["MemUsage"].endswith(" / 64MiB")


def test_stats_go_on_until_they_are_interrupted(place: living.Place) -> None:
    place("run", "-d", "--name", "m", "--", "sleep", "600")
    words = ["stats", "-i", "0.1", "--format", "{{.Name}}"]
    if place.caller.here:
        from callers import script

        command = [script("viscum"), *words]
    else:
        from callers import python_words

        command = place.caller.command(*python_words(False), "-m", "viscum", *words)
    with subprocess.Popen(
        command, env=place.env, cwd="/", stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert [process.stdout.readline() for _ in range(3)] == [b"m\n"] * 3
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0


def test_top_shows_ids_as_they_are_inside(place: living.Place) -> None:
    place("run", "-d", "--name", "m", "--", "sh", "-c", "sleep 600 & sleep 601; :")
    end = time.monotonic() + TIMEOUT
    while "sleep 601" not in place("top", "m"):
        assert time.monotonic() < end
    rows = json.loads(place("top", "--format", "json", "m"))
    first = next(row for row in rows if row["Pid"] == 1)
    others = [row for row in rows if row["Pid"] != 1]
    assert (first["User"], first["Uid"], first["Name"]) == ("root", 0, "sh")
    assert [row["ParentPid"] for row in others] == [1, 1]
    assert first["HostPid"] != 1
    assert place("top", "m").splitlines()[0].split()[:3] == ["USER", "PID", "PPID"]
    assert place("top", "m", "-o", "pid,comm").splitlines()[1].split() == ["1", "sh"]
    assert len(place("top", "m", "aux").splitlines()) == 4


def test_top_knows_users_of_the_machine(place: living.Place) -> None:
    if place.caller.kind == "one-id":
        return  # there is only root
    place("run", "-d", "--name", "m", "--user", "daemon", "--", "sleep", "600")
    assert place("top", "m", "user", "pid").splitlines()[1].split() == ["daemon", "1"]


def test_top_shows_all_machines_with_limits_bounds_and_the_last_decision(
    place: living.Place,
) -> None:
    options = ["--cpus", "0.1..1", "--class", "batch"] if place.caller.uid == 0 else []
    place("run", "-d", "--name", "web", *options, "--", "sh", "-c", BUSY)
    governor = place.folder / "run" / "governor"
    governor.mkdir(exist_ok=True)
    os.chown(governor, place.caller.uid, -1)
    decision = {"time": 1.5, "name": "web", "what": "cpus", "old": 1.0, "new": 0.25}
    decision |= {"rule": "lower", "signal": "used 0.2 CPUs over 1.0 s"}
    (governor / "decisions").write_text(json.dumps(decision) + "\nbroken\n")
    (row,) = json.loads(place("top", "--format", "json"))
    assert row["Name"] == "web"
    assert row["Decision"].endswith("cpus 1 -> 0.25, lower: used 0.2 CPUs over 1.0 s")
    if options:
        assert row["Class"] == "batch"
        assert row["CPULimit"] == "1 (0.1..1)"
        assert float(row["CPU"]) > 0.0
        assert row["Tasks"] == 2
    assert place("top").splitlines()[0].split()[:3] == ["NAME", "CLASS", "CPU"]


def test_top_fills_the_screen_until_it_is_told_to_go(folder: pathlib.Path) -> None:
    import callers

    for place in living.places(callers.make_caller("root"), folder):
        place("run", "-d", "--name", "web", "--", "sleep", "600")
        words = [os.path.join(sys.prefix, "bin", "viscum"), "top"]
        with Terminal(words, place.env) as terminal:
            terminal.resize(24, 120)
            terminal.expect("1 machines, no governor")
            terminal.expect("web")
            terminal.type("q")
            assert terminal.process.wait(TIMEOUT) == 0
            assert terminal.before == termios.tcgetattr(terminal.slave)


def test_top_shows_no_escapes_of_a_machine(place: living.Place) -> None:
    text = "exec -a \"$(printf 'evil\\033[2J\\nline')\" sleep 600"
    place("run", "-d", "--name", "m", "--", "bash", "-c", text)
    end = time.monotonic() + TIMEOUT
    while "evil" not in (shown := place("top", "m")):
        assert time.monotonic() < end
    assert "\\x1b[2J\\nline" in shown
    assert len(shown.splitlines()) == 2


def test_top_of_one_that_does_not_run_is_one_clear_error(place: living.Place) -> None:
    place("create", "--name", "m", "--", "true")
    assert "is created" in place("top", "m", code=125)
    assert "column 'x' is unknown" in place("top", "m", "x", code=125)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], "user pid ppid pcpu etime tty time args"),
        (["pid", "CMD"], "pid args"),
        (["-o", "pid,%cpu"], "pid pcpu"),
        (["-eo", "pid args"], "pid args"),
        (["-ef"], "user pid ppid pcpu etime tty time args"),
    ],
)
def test_columns_are_chosen_as_ps_does(words: list[str], names: str) -> None:
    assert chosen(words) == names.split()


def test_columns_that_are_none_are_refused() -> None:
    for words in (["-o"], ["--sort=pid"], ["nonsense"]):
        with pytest.raises(SpecError, match="is unknown"):
            chosen(words)


def test_clock_is_that_of_ps() -> None:
    assert [clock(n) for n in (0, 61, 3661, 90061)] == ["00:00", "01:01", "1:01:01", "1-01:01:01"]


def test_ids_without_a_place_in_the_map_are_nobodys(tmp_path: pathlib.Path) -> None:
    (tmp_path / "map").write_text("         0       1000          1\n 1 700000 65535\n")
    ids = IdMap(str(tmp_path / "map"))
    assert [ids.inside(n) for n in (1000, 700000, 700001, 0)] == [0, 1, 2, 65534]


def test_events_come_in_order_and_are_filtered(place: living.Place) -> None:
    place("run", "-d", "--name", "a", "--", "true")
    place("wait", "a")
    place("create", "--name", "b", "--", "true")
    place("rename", "b", "c")
    place("rm", "a", "c")
    listed = json.loads("[" + ",".join(
        place("events", "--no-stream", "--format", "json").splitlines()
    ) + "]")  # fmt: skip
    actions = [(row["Name"], row["Action"]) for row in listed]
    assert actions[:2] == [("a", "create"), ("a", "start")]
    assert ("a", "die") in actions
    assert actions[-1] == ("c", "remove")
    assert sorted(row["TimeNano"] for row in listed) == [row["TimeNano"] for row in listed]
    form = "{{.Name}} {{.Action}}"
    words = ["events", "--no-stream", "--format", form]
    assert place(*words, "-f", "event=create") == "a create\nb create\n"
    assert place(*words, "-f", "machine=a", "-f", "event=remove") == "a remove\n"
    assert place(*words, "--until", "1h") == ""
    assert place(*words, "-f", "type=volume") == ""
    first = place("events", "--no-stream").splitlines()[0]
    assert " machine create " in first and "(name=a)" in first


@needs("cpu")
def test_events_tell_of_throttling_waiting_and_new_limits(root_place: Place) -> None:
    root_place("run", "-d", "--name", "a", "--cpus", "0.2", "--", "sh", "-c", BUSY)
    root_place("update", "--pids-limit", "40", "a")
    form = "{{.Name}} {{.Action}} {{json .Attributes}}"
    told = root_place("events", "--since", "1m", "--until", str(time.time() + 6), "--format", form)
    root_place("rm", "-f", "a")
    assert 'a resized {"name": "a", "pids": "40"}' in told
    assert told.count("a throttled") == 1
    assert told.count('"resource": "cpu"') == 1


def test_events_end_at_until(place: living.Place) -> None:
    until = str(time.time() + 0.5)
    assert place("events", "--since", "1h", "--until", until) == ""
    assert time.time() >= float(until)


@pytest.mark.parametrize(
    "words",
    [
        ["stats", "absent"],
        ["stats", "--interval", "0"],
        ["stats", "--interval", "x"],
        ["stats", "--no-stream", "--format", "{{"],
        ["events", "x"],
        ["events", "--since", "yesterday"],
        ["events", "--filter", "colour=red"],
        ["events", "--no-stream", "--format", "{{.X"],
        ["top", "absent"],
    ],
)
def test_senseless_command_is_one_clear_error(
    words: list[str], user: callers.Caller, folder: pathlib.Path
) -> None:
    for place in living.places(user, folder):
        assert place(*words, code=125).startswith("viscum: ")


def test_volume_without_a_name_goes_with_its_machine(place: living.Place) -> None:
    place("run", "-v", "/data", "--", "touch", "/data/x")
    assert place("volume", "ls", "-q") == ""
    place("create", "--name", "a", "-v", "/data", "-v", "named:/n", "--", "true")
    place("create", "--name", "b", "--volumes-from", "a", "--", "true")
    assert len(place("volume", "ls", "-q", "--filter", "anonymous=true").split()) == 1
    place("rm", "-v", "a")
    assert len(place("volume", "ls", "-q").split()) == 2  # b has it
    place("rm", "-v", "b")
    assert place("volume", "ls", "-q") == "named\n"
    place("create", "--name", "c", "-v", "/data", "--", "true")
    place("rm", "c")
    assert len(place("volume", "ls", "-q").split()) == 2


def test_volumes_come_from_another_machine(place: living.Place) -> None:
    place("create", "--name", "m", "-v", "a:/a", "-v", "b:/b", "--tmpfs", "/t", "--", "true")
    text = "touch /a/x && touch /t/x && ls -d /a /b /t && touch /b/x"
    words = ["run", "--rm", "--volumes-from", "m", "-v", "c:/b:ro", "--", "sh", "-c", text]
    assert "Read-only" in place(*words, code=1)
    assert place("run", "--volumes-from", "m:ro", "--", "ls", "/a") == "x\n"
    assert place("run", "--volumes-from", "m", "--", "ls", "/b") == ""
    place("run", "--volumes-from", "m:ro", "--", "touch", "/a/y", code=1)
    assert "is not MACHINE[:ro]" in place("run", "--volumes-from", "m:x", "--", "true", code=125)
    assert "no machine 'n'" in place("run", "--volumes-from", "n", "--", "true", code=125)
