"""Machines that live on, from the command line: what becomes of them, and how they are found."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from needs import needs
from places import groups_of, is_running, until

if TYPE_CHECKING:
    import pathlib

    from places import Place

pytestmark = needs("userns")

SLEEP = ("sleep", "600")


def inspect(place: Place, word: str) -> dict:
    return json.loads(place("inspect", word))[0]


# From its creation to its removal, as each kind of user.


def test_machine_is_left_running_and_ended(place: Place) -> None:
    machine_id = place("run", "-d", "--name", "box", "--", *SLEEP).strip()
    assert re.fullmatch("[0-9a-f]{64}", machine_id)
    pid = place.status(machine_id).pid
    assert is_running(pid)
    assert place("ps", "-q").split() == [machine_id[:12]]
    assert place("stop", "box") == "box\n"
    assert not is_running(pid)
    assert place("ps", "-q") == ""
    assert place("ps", "-aq").split() == [machine_id[:12]]
    assert place("rm", "box") == "box\n"
    assert place.machines() == []
    assert groups_of(machine_id) == []


def test_machine_is_created_started_and_started_again(place: Place) -> None:
    place("create", "--name", "box", "--", "sh", "-c", "echo ran; exit 7")
    assert inspect(place, "box")["State"]["Status"] == "created"
    assert place("start", "box") == "box\n"
    assert place("wait", "box") == "7\n"
    place("start", "box")
    place("wait", "box")
    assert place("logs", "box") == "ran\nran\n"


def test_layer_outlives_the_processes(place: Place) -> None:
    script = "test -e /root/mark && echo again; echo x > /root/mark; echo y > /tmp/mark; ls /tmp"
    place("create", "--name", "box", "--", "sh", "-c", script)
    for _ in range(2):
        assert place.result("start", "-a", "box").returncode == 0
    assert place("logs", "box") == "mark\nagain\nmark\n"


def test_command_runs_in_a_running_machine(place: Place) -> None:
    place("run", "-d", "--name", "box", "-e", "A=machine", "--", *SLEEP)
    assert place("exec", "box", "sh", "-c", "echo $A") == "machine\n"
    assert place("exec", "-e", "A=command", "-w", "/tmp", "box", "sh", "-c", "echo $A; pwd") == (
        "command\n/tmp\n"
    )
    assert place("exec", "-i", "box", "cat", input=b"typed") == "typed"
    assert place("exec", "box", "cat", "/proc/1/cmdline") == "sleep\x00600\x00"
    assert place.result("exec", "box", "sh", "-c", "exit 9").returncode == 9
    assert place.result("exec", "box", "no-such-command").returncode == 127


def test_detached_command_lives_on(place: Place) -> None:
    place("run", "-d", "--name", "box", "--", *SLEEP)
    place("exec", "-d", "box", "sh", "-c", "sleep 0.1; echo done > /tmp/mark; sleep 600")
    until(lambda: place.result("exec", "box", "cat", "/tmp/mark").stdout == b"done\n", "the mark")
    place("stop", "box")


def test_machine_shares_the_namespaces_of_another(place: Place) -> None:
    place("run", "-d", "--name", "box", "--", *SLEEP)
    words = ["--network", "machine:box", "--ipc", "container:box", "--pid", "machine:box"]
    namespaces = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/pid"
    theirs = place("exec", "box", "sh", "-c", namespaces)
    if not groups_of(inspect(place, "box")["Id"]):
        words = words[:4]  # with the process ids of others only a group can end it all
        theirs = "".join(theirs.splitlines(keepends=True)[:2])
        namespaces = namespaces.rpartition(" ")[0]
    assert place("run", *words, "--", "sh", "-c", namespaces) == theirs
    place("run", "-d", "--name", "second", *words, "--", *SLEEP)
    assert place("exec", "second", "sh", "-c", namespaces) == theirs
    assert place("exec", "second", "hostname") == "viscum\n"
    place("rm", "-f", "second")
    assert inspect(place, "box")["State"]["Running"]


def test_shared_namespaces_need_a_running_machine(root_place: Place) -> None:
    root_place("create", "--name", "box", "--", "true")
    words = ["run", "--network", "machine:box", "--", "true"]
    assert "'box' is created" in root_place(*words, code=125)
    assert "no machine 'nobody'" in root_place("run", "--pid", "machine:nobody", "true", code=125)


# How machines are found, and how they are not.


def test_names_ids_and_prefixes_are_accepted(root_place: Place) -> None:
    machine_id = root_place("create", "--name", "box", "--", "true").strip()
    for word in ("box", machine_id, machine_id[:12], machine_id[:6]):
        assert inspect(root_place, word)["Id"] == machine_id


@pytest.mark.parametrize("word", ["nobody", "", "..", "a/b", "../names/box", ".", "x" * 500, "-"])
def test_machine_that_is_not_there_is_one_clear_error(root_place: Place, word: str) -> None:
    root_place("create", "--name", "box", "--", "true")
    text = root_place("stop", "--", word, code=125)
    assert len(re.findall("^viscum: ", text, re.MULTILINE)) == 1
    assert "hint: viscum ps -a" in text


def test_ambiguous_prefix_is_refused(root_place: Place) -> None:
    ids = [root_place("create", "--", "true").strip() for _ in range(18)]
    first = next(digit for digit in "0123456789abcdef" if sum(i[0] == digit for i in ids) > 1)
    assert "begin of several ids" in root_place("rm", first, code=125)
    assert len(root_place.machines()) == 18


def test_name_is_taken_once(root_place: Place) -> None:
    root_place("create", "--name", "box", "--", "true")
    assert "'box' is there already" in root_place("create", "--name", "box", "--", "true", code=125)
    assert "'box' is there already" in root_place("run", "--name", "box", "--", "true", code=125)
    assert len(root_place.machines()) == 1


def test_machine_gets_another_name(root_place: Place) -> None:
    machine_id = root_place("run", "-d", "--name", "box", "--", *SLEEP).strip()
    root_place("create", "--name", "other", "--", "true")
    assert "there already" in root_place("rename", "box", "other", code=125)
    assert "not usable" in root_place("rename", "box", "no/name", code=125)
    root_place("rename", "box", "renamed")
    assert inspect(root_place, "renamed")["Id"] == machine_id
    assert "no machine" in root_place("stop", "box", code=125)
    root_place("create", "--name", "box", "--", "true")


def test_several_machines_are_done_each(root_place: Place) -> None:
    for name in ("one", "two"):
        root_place("run", "-d", "--name", name, "--", *SLEEP)
    done = root_place.result("stop", "one", "nobody", "two")
    assert done.returncode == 125
    assert done.stdout == b"one\ntwo\n"
    assert done.stderr.count(b"viscum: ") == 1
    root_place("rm", "-a")
    assert root_place.machines() == []


def test_listing_is_filtered_and_formatted(root_place: Place) -> None:
    root_place("run", "-d", "--name", "up", "--label", "a=b", "--", *SLEEP)
    root_place("create", "--name", "made", "--label", "a=c", "--", "true")
    names = ("ps", "-a", "--format", "{{.Names}}")
    assert root_place(*names).split() == ["made", "up"]
    assert root_place(*names, "--filter", "label=a=b") == "up\n"
    assert root_place(*names, "--filter", "status=created") == "made\n"
    assert root_place(*names, "--filter", "name=ma") == "made\n"
    assert root_place(*names, "-n", "1") == "made\n"
    rows = json.loads(root_place("ps", "--format", "json"))
    assert [(row["Names"], row["State"], row["Labels"]) for row in rows] == [
        ("up", "running", {"a": "b"})
    ]
    assert "STATUS" in root_place("ps").splitlines()[0]
    assert "unknown" in root_place("ps", "--filter", "colour=red", code=125)


def test_inspect_tells_what_was_loosened(root_place: Place) -> None:
    root_place("create", "--name", "tight", "--", "true")
    root_place("create", "--name", "loose", "--network", "host", "--cap-add", "NET_ADMIN", "true")
    assert inspect(root_place, "tight")["Loosened"] == []
    assert inspect(root_place, "loose")["Loosened"] == ["network", "cap_add"]


def test_foreground_machine_is_found_too(root_place: Place) -> None:
    words = ("run", "--name", "front", "--", "sh", "-c", "echo ready; sleep 600")
    with root_place.start(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        until(lambda: root_place("ps", "--format", "{{.Names}}") == "front\n", "the entry")
        assert root_place("exec", "front", "echo", "in") == "in\n"
        assert "in the foreground of process" in root_place("attach", "front", code=125)
        root_place("stop", "front")
        assert process.wait(20) != 0
    assert root_place.machines() == []


# What it is while it lives.


@needs("freezer")
def test_paused_machine_stands_still(root_place: Place) -> None:
    script = "while :; do echo x; sleep 0.05; done"
    machine_id = root_place("run", "-d", "--name", "box", "--", "sh", "-c", script).strip()
    log = root_place.folder_of(machine_id) / "log"
    until(lambda: log.stat().st_size > 200, "output")
    root_place("pause", "box")
    assert root_place("ps", "--filter", "status=paused", "-q")
    assert "'box' is paused" in root_place("exec", "box", "true", code=125)
    time.sleep(0.2)
    before = log.stat().st_size
    time.sleep(0.3)
    assert log.stat().st_size == before
    root_place("unpause", "box")
    until(lambda: log.stat().st_size > before, "more output")
    root_place("pause", "box")
    root_place("stop", "box")
    assert not groups_of(machine_id)


@needs("memory", "pids")
def test_limits_are_changed_live_and_kept(root_place: Place) -> None:
    script = "(head -c 20000000 /dev/zero; sleep 600) | tail -c 30000000"
    root_place("run", "-d", "--name", "box", "--memory", "64m", "--", "sh", "-c", script)
    root_place("update", "--memory", "96m", "--pids-limit", "40", "box")
    assert inspect(root_place, "box")["HostConfig"]["memory"] == 96 << 20
    machine_id = inspect(root_place, "box")["Id"]
    values = set()
    for group in groups_of(machine_id):
        for file in ("memory.limit_in_bytes", "memory.max", "pids.max"):
            try:
                with open(f"{group}/{file}", encoding="ascii") as opened:
                    values.add(opened.read().strip())
            except OSError:
                continue
    assert {str(96 << 20), "40"} <= values
    until(lambda: place_usage(machine_id) > 20_000_000, "memory to be used")
    refused = root_place("update", "--memory", "600k", "--pids-limit", "41", "box", code=125)
    assert "nothing was changed" in refused
    assert inspect(root_place, "box")["HostConfig"]["pids"] == 40
    root_place("restart", "-t", "0", "box")
    assert inspect(root_place, "box")["HostConfig"]["memory"] == 96 << 20


def place_usage(machine_id: str) -> int:
    for group in groups_of(machine_id):
        for file in ("memory.usage_in_bytes", "memory.current"):
            if os.path.exists(f"{group}/{file}"):
                with open(f"{group}/{file}", encoding="ascii") as opened:
                    return int(opened.read())
    return 0


def test_stop_waits_for_what_the_machine_has_to_do(root_place: Place) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    root_place("run", "-d", "--name", "box", "--", "sh", "-c", script)
    until(lambda: root_place("logs", "box") == "ready\n", "ready")
    root_place("stop", "box")
    assert root_place("logs", "box") == "ready\nbye\n"
    assert root_place("wait", "box") == "3\n"


def test_stop_kills_what_ignores_every_signal(root_place: Place) -> None:
    script = "trap '' TERM INT HUP QUIT USR1; echo ready; while :; do sleep 0.05; done"
    root_place("run", "-d", "--name", "box", "--", "sh", "-c", script)
    until(lambda: root_place("logs", "box") == "ready\n", "ready")
    begin = time.monotonic()
    root_place("stop", "-t", "0.5", "box")
    assert time.monotonic() - begin >= 0.5
    assert root_place("wait", "box") == "137\n"


def test_kill_sends_the_signal_that_is_named(root_place: Place) -> None:
    script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"
    root_place("run", "-d", "--name", "box", "--", "sh", "-c", script)
    until(lambda: root_place("logs", "box") == "ready\n", "ready")
    root_place("kill", "-s", "USR1", "box")
    until(lambda: root_place("logs", "box") == "ready\nusr1\n", "the handler")
    root_place("kill", "box")
    assert root_place("wait", "box") == "137\n"


def test_machine_with_rm_goes_when_it_has_ended(root_place: Place) -> None:
    root_place("run", "-d", "--rm", "--name", "box", "--", "true")
    until(lambda: root_place.machines() == [], "the removal")
    assert list((root_place.data / "names").iterdir()) == []


def test_timeout_ends_a_machine_that_lives_on(root_place: Place) -> None:
    root_place("run", "-d", "--timeout", "0.3", "--name", "box", "--", *SLEEP)
    assert root_place("wait", "box") == "137\n"


def test_cidfile_has_the_id_and_is_never_overwritten(
    root_place: Place, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "id"
    machine_id = root_place("create", "--cidfile", str(path), "--", "true").strip()
    assert path.read_text() == machine_id
    assert "choose a new file" in root_place("create", "--cidfile", str(path), "true", code=125)
    assert len(root_place.machines()) == 1


def test_prune_removes_what_does_not_run(root_place: Place) -> None:
    root_place("run", "-d", "--name", "up", "--", *SLEEP)
    root_place("create", "--name", "keep", "--label", "keep", "--", "true")
    root_place("create", "--name", "made", "--label", "go", "--", "true")
    assert root_place("prune", "-f", "--filter", "label=go") == "made\n"
    assert root_place("prune", "-f") == "keep\n"
    assert root_place("ps", "-a", "--format", "{{.Names}}") == "up\n"


# What goes wrong.


def test_command_that_is_not_there_leaves_no_machine(root_place: Place) -> None:
    root_place("run", "-d", "--name", "box", "--", "no-such-command", code=127)
    assert root_place.machines() == []
    root_place("create", "--name", "box", "--", "no-such-command")
    root_place("start", "box", code=127)
    assert inspect(root_place, "box")["State"]["Status"] == "created"
    assert "not found" in inspect(root_place, "box")["State"]["Error"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "-d"], "no command"),
        (["run", "-d", "--name", "a/b", "true"], "not usable"),
        (["run", "-d", "--restart", "sometimes", "true"], "restart policy"),
        (["run", "-d", "--restart", "on-failure:x", "true"], "restart policy"),
        (["run", "-d", "--restart", "always", "--rm", "true"], "contradict"),
        (["run", "-d", "--log-opt", "max-size=-1", "true"], "max-size"),
        (["run", "-d", "--log-opt", "max-file=0", "true"], "max-file"),
        (["run", "-d", "--log-opt", "colour=red", "true"], "log-opt"),
        (["run", "-d", "--health-cmd", "true", "--health-interval", "x", "true"], "duration"),
        (["run", "-d", "--health-cmd", "true", "--health-retries", "0", "true"], "retries"),
        (["run", "-d", "--health-interval", "1s", "true"], "no health check"),
        (["run", "-d", "--on-monitor-loss", "panic", "true"], "keep or end"),
        (["run", "--restart", "always", "true"], "needs a machine that lives on"),
        (["create"], "no command"),
        (["exec", "nobody", "true"], "no machine"),
        (["exec", "nobody"], "no command"),
        (["logs", "--since", "yesterday-ish", "nobody"], "no time"),
        (["logs", "--tail", "x", "nobody"], "no number"),
        (["attach", "--detach-keys", "ctrl-11", "nobody"], "no key"),
        (["kill", "-s", "NOPE", "nobody"], "signal"),
        (["stop"], "no machine named"),
        (["update", "nobody"], "nothing to change"),
        (["rename", "x"], "too little"),
        (["ps", "x"], "too much"),
    ],
    ids=" ".join,
)
def test_senseless_words_are_one_clear_error(
    root_place: Place, words: list[str], complaint: str
) -> None:
    text = root_place(*words, code=125)
    assert complaint in text
    assert len(re.findall("^viscum: ", text, re.MULTILINE)) == 1
    assert root_place.machines() == []


def test_machine_that_runs_is_neither_started_nor_removed(root_place: Place) -> None:
    root_place("run", "-d", "--name", "box", "--", *SLEEP)
    assert "is running" in root_place("start", "box", code=125)
    assert "is running" in root_place("rm", "box", code=125)
    assert "no machine" in root_place.result("rm", "-f", "nobody").stderr.decode()
    root_place("rm", "-f", "box")


def test_twenty_processes_at_one_machine_leave_it_whole(root_place: Place) -> None:
    """A loser gets one clear error; afterwards the machine is in one of its states."""
    root_place("create", "--name", "box", "--", *SLEEP)
    verbs = [["start", "box"], ["stop", "-t", "1", "box"], ["restart", "-t", "1", "box"]]
    verbs += [["rm", "-f", "box"], ["exec", "box", "true"]]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda n: root_place.result(*verbs[n % len(verbs)]), range(20)))
    for one in done:
        assert b"Traceback" not in one.stderr
        complaints = one.stderr.count(b"viscum: ")
        forced = "rm" in one.args and b"no machine" in one.stderr  # told, and no failure
        assert complaints == (one.returncode != 0 or forced), one
    left = root_place.machines()
    assert len(left) <= 1
    if left:
        assert inspect(root_place, "box")["State"]["Status"] in ("created", "running", "exited")


def test_starts_at_once_start_it_once(root_place: Place) -> None:
    root_place("create", "--name", "box", "--", "sh", "-c", "echo started; sleep 600")
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda _: root_place.result("start", "box").returncode, range(10)))
    assert sorted(done) == [0] + [125] * 9
    until(lambda: root_place("logs", "box") == "started\n", "output")


def test_killed_creations_and_starts_leave_nothing_half_made(root_place: Place) -> None:
    for step in range(20):
        process = root_place.start("run", "-d", "--name", f"box{step}", "--", *SLEEP)
        time.sleep(0.003 * step)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for row in json.loads(root_place("ps", "-a", "--format", "json")):
        assert row["State"] in ("created", "running"), row["Status"]
    root_place("run", "-d", "--name", "after", "--", *SLEEP)
    root_place("rm", "-fa")
    left = [name for name in root_place.machines() if not name.startswith(".")]
    assert left == []


def test_machine_of_another_boot_is_recognised(root_place: Place) -> None:
    machine_id = root_place("run", "-d", "--name", "box", "--", *SLEEP).strip()
    root_place("kill", "box")
    root_place("wait", "box")
    path = root_place.folder_of(machine_id) / "status.json"
    status = json.loads(path.read_text())
    status |= {"state": "running", "boot": "of another time", "pid": os.getpid(), "start": 1}
    status |= {"finished": 0, "code": -1}
    path.write_text(json.dumps(status))
    assert "host was restarted" in root_place("ps", "-a")
    root_place("start", "box")
    assert inspect(root_place, "box")["State"]["Running"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", '{"version":99}', '{"version":1}', '{"version":1,"spec":[]}', "[" * 100000],
    ids=lambda text: text[:20],
)
def test_damaged_machine_is_told_and_can_be_removed(root_place: Place, text: str) -> None:
    machine_id = root_place("create", "--name", "box", "--", "true").strip()
    (root_place.folder_of(machine_id) / "config.json").write_text(text)
    root_place("create", "--name", "whole", "--", "true")
    assert "Damaged" in root_place("ps", "-a")
    assert "whole" in root_place("ps", "-a")
    complaint = root_place("start", machine_id, code=125)
    assert "damaged" in complaint or "version" in complaint
    root_place("rm", "-f", machine_id)
    assert len(root_place.machines()) == 1


DEEP = """
cd /srv
below=$(printf 'abcd/%.0s' $(seq 400))
for n in 1 2 3; do mkdir -p $below && cd -P $below || exit; done
"""


def test_layer_with_folders_nested_thousands_deep_is_removed(place: Place) -> None:
    """Deeper than a path can be long, and than Python calls itself."""
    place("run", "-d", "--name", "deep", "--", "sh", "-c", DEEP)
    assert place("wait", "deep") == "0\n"
    place("rm", "deep")
    assert [path for path in (place.data / "machines").iterdir() if path.is_dir()] == []
