"""The monitor of a machine that lives on: its log, its clients, restarts, health, and its loss."""

from __future__ import annotations

import base64
import itertools
import json
import os
import pathlib
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import viscum
from needs import needs
from places import groups_of, is_running, until
from viscum.attaching import Attachment
from viscum.cli.moments import parse_moment, timestamp
from viscum.detached import DetachedMachine
from viscum.journal import window_ns
from viscum.logs import parse_time
from viscum.registry import Record

if TYPE_CHECKING:
    from places import Place

pytestmark = needs("userns")

SLEEP = ("sleep", "600")
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def here(root_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the API use the same folders as the commands."""
    monkeypatch.setenv("VISCUM_DATA", str(root_place.data))
    monkeypatch.setenv("VISCUM_RUN", str(root_place.run))


def log_records(record: Record) -> list[dict]:
    lines = []
    for number in range(20, 0, -1):
        path = pathlib.Path(record.path(f"log.{number}"))
        lines += path.read_bytes().splitlines() if path.exists() else []
    lines += pathlib.Path(record.path("log")).read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def machine(*command: str, **options: object) -> DetachedMachine:
    made = viscum.Machine.create(list(command), **options)
    made.start()
    return made


# The log.


def test_log_has_each_line_with_its_stream_and_time() -> None:
    before = time.time_ns()
    made = machine("sh", "-c", "echo out; echo err >&2; printf 'no newline'")
    assert made.wait() == 0
    records = log_records(made.record)
    assert [(r["log"], r["stream"]) for r in records if r["stream"] == "stdout"] == [
        ("out\n", "stdout"),
        ("no newline", "stdout"),
    ]
    assert ("err\n", "stderr") in [(r["log"], r["stream"]) for r in records]
    for record in records:
        assert before <= parse_time(record["time"]) <= time.time_ns()
        assert set(record) == {"log", "stream", "time"}


@pytest.mark.parametrize(
    "data",
    [
        b'quotes " and \\ and \t tabs \x01 \x1f \x7f\n',
        "ünïcödé 漢字 🌿\n".encode(),
        b"\xff\xfe broken \xc3 utf-8 \xed\xa0\x80\n",
        b"\0nul\0\n",
        b"x" * 16384 + b"\n",
        b"y" * 50000 + b"\nshort\n",
        "é".encode() * 20000 + b"\n",
        b"\n\n\n",
        b"",
        b'"' * 40000 + b"\n",
    ],
    ids=range(10),
)
def test_log_keeps_any_bytes_as_valid_json(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    made = machine("sh", "-c", "base64 -d", interactive=True)
    with made.attach() as attached:
        attached.send(text.encode())
        attached.close_input()
        assert b"".join(output.data for output in attached) == data
    logged = "".join(record["log"] for record in log_records(made.record))
    assert logged == data.decode("utf-8", "replace") or b"\xff" in data
    if b"\xff" in data:  # how many replacements stand for a broken sequence is not told
        assert logged.startswith("\ufffd\ufffd broken \ufffd utf-8")


def test_log_loses_cuts_and_mixes_no_line() -> None:
    script = "for n in $(seq 20000); do echo out-$n; echo err-$n >&2; done"
    made = machine("sh", "-c", script, log=viscum.LogOptions(max_size=MEGABYTE, max_files=20))
    made.wait()
    records = log_records(made.record)
    for stream, word in (("stdout", "out"), ("stderr", "err")):
        lines = [record["log"] for record in records if record["stream"] == stream]
        assert lines == [f"{word}-{n}\n" for n in range(1, 20001)]


def test_log_is_turned_and_bounded() -> None:
    options = viscum.LogOptions(max_size=200_000, max_files=3)
    made = machine("sh", "-c", "yes 0123456789 | head -n 100000", log=options)
    made.wait()
    names = sorted(p.name for p in pathlib.Path(made.record.folder).glob("log*"))
    assert names == ["log", "log.1", "log.2"]
    for name in names:
        assert pathlib.Path(made.record.path(name)).stat().st_size <= 200_000
    texts = {entry.text for entry in made.logs()}
    assert texts == {"0123456789\n"}


def test_log_rate_bounds_the_machine_and_loses_nothing() -> None:
    options = viscum.LogOptions(max_rate=400_000)
    begin = time.monotonic()
    made = machine("sh", "-c", "yes 0123456789 | head -n 30000", log=options)
    made.wait()
    assert time.monotonic() - begin > 0.3  # 330,000 bytes, less what a pipe holds
    assert len(log_records(made.record)) == 30000


def test_log_is_read_from_the_end_and_between_times(root_place: Place) -> None:
    made = machine("sh", "-c", "for n in $(seq 10); do echo $n; done; sleep 0.3; echo late")
    made.wait()
    name = made.name
    assert root_place("logs", "--tail", "2", name) == "10\nlate\n"
    assert root_place("logs", "-n", "0", name) == ""
    assert root_place("logs", "--tail", "all", name).count("\n") == 11
    stamped = root_place("logs", "-t", "--tail", "1", name)
    moment = stamped.split()[0]
    assert root_place("logs", "--since", moment, name).startswith("late")
    early = root_place("logs", "--until", str(made.status.started / 1e9 + 0.2), name)
    assert early.endswith("10\n")


@pytest.mark.parametrize("ns", [0, 1, 122, 167_529_122, 500_000_999, 999_999_999])
def test_time_that_was_printed_includes_what_it_was_printed_of(ns: int) -> None:
    for second in range(1_795_724_887, 1_795_725_087):
        written = second * 1_000_000_000 + ns
        moment = parse_moment(timestamp(written), "--since")
        begin, end = window_ns(moment, moment)
        assert begin <= written <= end


@pytest.mark.parametrize("tail", [0, 1, 7, 999, 1000, 5000])
def test_tail_counts_over_turned_files(tail: int) -> None:
    options = viscum.LogOptions(max_size=20_000, max_files=20)
    made = machine("sh", "-c", "for n in $(seq 1000); do echo line-$n; done", log=options)
    made.wait()
    expected = [f"line-{n}\n" for n in range(1, 1001)][max(0, 1000 - tail) :] if tail else []
    assert [entry.text for entry in made.logs(tail=tail)] == expected


def test_log_is_followed_over_turns_until_the_end() -> None:
    options = viscum.LogOptions(max_size=100_000, max_files=20)
    script = "for n in $(seq 6000); do echo line-$n; done; sleep 0.2; echo last"
    made = machine("sh", "-c", script, log=options)
    lines = [entry.text for entry in made.logs(follow=True)]
    assert lines == [*(f"line-{n}\n" for n in range(1, 6001)), "last\n"]


def test_full_disk_stops_no_machine_and_is_told(root_place: Place, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "none", str(small)], check=True
    )
    try:
        env = {**root_place.env, "VISCUM_DATA": str(small)}
        script = "yes 0123456789abcdef | head -n 60000; echo through > /dev/shm/mark; sleep 600"
        root_place("run", "-d", "--name", "box", "--", "sh", "-c", script, env=env)
        check = ("exec", "box", "cat", "/dev/shm/mark")
        until(lambda: root_place.result(*check, env=env).stdout == b"through\n", "the end")
        for path in small.glob("machines/*/log"):
            text = path.read_bytes()
            assert text.count(b"\n") > 10
        root_place("rm", "-f", "box", env=env)
    finally:
        subprocess.run(["umount", str(small)], check=True)


# Who watches.


def test_attached_client_sees_output_types_and_learns_the_code() -> None:
    made = machine("sh", "-c", "read a; echo got $a; read b; exit $b", interactive=True)
    with made.attach() as attached:
        attached.send(b"word\n")
        first = attached.receive()
        assert (first.stream, first.data) == ("stdout", b"got word\n")
        attached.send(b"42\n")
        assert attached.receive() is None
        assert attached.exit_code == 42
    assert made.wait() == 42


def test_client_that_is_there_from_the_begin_misses_nothing() -> None:
    made = viscum.Machine.create(["sh", "-c", "echo first; echo second >&2"])
    with made.start_attached() as attached:
        outputs = list(attached)
    assert b"".join(o.data for o in outputs if o.stream == "stdout") == b"first\n"
    assert b"".join(o.data for o in outputs if o.stream == "stderr") == b"second\n"
    assert attached.exit_code == 0


def test_slow_client_holds_up_neither_machine_nor_others() -> None:
    script = "read go; yes 0123456789abcdef | head -c 20000000; echo; echo END; sleep 1; echo LATE"
    made = machine("sh", "-c", script, interactive=True)
    slow, quick = made.attach(), made.attach()
    quick.send(b"go\n")
    begin, total = time.monotonic(), b""
    while b"END" not in total:
        total = (total + quick.receive().data)[-100:]
    assert time.monotonic() - begin < 10
    assert sum(output.lost for output in slow) > 10_000_000
    assert slow.exit_code == made.wait() == 0
    slow.close()
    quick.close()


def test_clients_that_vanish_leave_the_machine_alone() -> None:
    made = machine("sh", "-c", "while :; do echo x; done", interactive=True)
    for _ in range(200):
        attached = made.attach()
        attached.send(b"x" * 5000)
        attached.close()
    assert made.state == "running"
    assert len(os.listdir(f"/proc/{made.status.monitor}/fd")) < 100
    with made.attach() as again:
        assert again.receive().data.startswith(b"x")


def test_clients_that_vanish_with_input_waiting_cost_nothing() -> None:
    made = machine(*SLEEP, interactive=True)
    for _ in range(70):
        attached = made.attach()
        for _ in range(20):
            attached.send(b"x" * 4096)
        attached.close()
    before = cpu_ticks(made.status.monitor)
    time.sleep(0.5)
    assert cpu_ticks(made.status.monitor) - before <= 1


def cpu_ticks(pid: int) -> int:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_input_of_a_client_that_left_still_arrives() -> None:
    made = machine("sh", "-c", "sleep 0.3; wc -c", interactive=True)
    attached = made.attach()
    attached.send(b"x" * 100_000)
    attached.close_input()
    attached.close()
    assert made.wait() == 0
    assert [entry.text for entry in made.logs()] == ["100000\n"]


def test_input_that_nobody_reads_waits_and_blocks_no_other_order() -> None:
    made = machine(*SLEEP, interactive=True)
    attached = made.attach()
    for _ in range(100):
        try:
            attached._channel.send(b"i" + b"x" * 4096, 0x40)  # MSG_DONTWAIT
        except BlockingIOError:
            break
    assert made.stop(1.0) != 0
    attached.close()


@pytest.mark.parametrize(
    "message", [b"", b"?", b"S", b"S" + b"x" * 100, b"w", b"i", b"i" * 9000, b"A" * 50000, b"\0"]
)
def test_senseless_message_harms_nothing(message: bytes) -> None:
    made = machine("cat", interactive=True)
    attached = made.attach()
    attached._channel.send(message)
    attached.close()
    with made.attach() as again:
        again.send(b"alive\n")
        assert b"alive" in again.receive().data
    assert made.state == "running"


def test_socket_is_for_its_owner_only(root_place: Place) -> None:
    made = machine(*SLEEP)
    assert os.stat(made.record.path("ctl")).st_mode & 0o777 == 0o600
    assert os.stat(made.record.folder).st_mode & 0o777 == 0o700


def test_more_clients_than_there_is_room_for_are_turned_away() -> None:
    made = machine("cat", interactive=True)
    clients = []
    for _ in range(80):
        try:
            clients.append(made.attach())
        except (viscum.MachineError, OSError):
            continue
    assert len(clients) >= 60
    clients[0].send(b"x\n")
    assert clients[0].receive().data == b"x\n"
    for client in clients:
        client.close()


def test_flood_of_a_terminal_is_kept_and_ends() -> None:
    made = machine("sh", "-c", "yes 0123456789 | head -n 50000", fixed={"tty": True})
    assert made.wait() == 0
    text = "".join(record["log"] for record in log_records(made.record))
    assert text == "0123456789\r\n" * 50000


# Restarts.


def test_machine_is_started_again_as_often_as_was_asked() -> None:
    made = machine("sh", "-c", "echo life; exit 3", restart="on-failure:2")
    assert made.wait() == 3
    assert [entry.text for entry in made.logs()] == ["life\n"] * 3
    assert made.status.restarts == 2
    assert groups_of(made.id) == []


def test_machine_that_succeeds_is_not_started_again_on_failure() -> None:
    made = machine("sh", "-c", "echo life", restart="on-failure")
    assert made.wait() == 0
    assert [entry.text for entry in made.logs()] == ["life\n"]


def test_restarts_wait_longer_each_time() -> None:
    made = machine("sh", "-c", "echo life; exit 1", restart="on-failure:4")
    made.wait()
    times = [entry.time for entry in made.logs()]
    gaps = [(b - a) / 1e9 for a, b in itertools.pairwise(times)]
    assert len(gaps) == 4
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(gaps))
    assert gaps[0] >= 0.1


def test_stop_ends_restarts_for_good() -> None:
    made = machine("sh", "-c", "exit 1", restart="always")
    until(lambda: made.status.restarts >= 2, "restarts")
    made.stop()
    assert made.state == "exited"
    time.sleep(0.5)
    assert made.state == "exited"
    assert not is_running(made.status.monitor)


def test_killed_machine_of_always_comes_back_unless_it_was_asked_to_end() -> None:
    made = machine(*SLEEP, restart="always")
    first = made.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: made.pid not in (0, first), "another life")
    made.kill()
    assert made.wait() == 137


def test_restart_policy_can_be_changed_while_it_runs(root_place: Place) -> None:
    made = machine(*SLEEP)
    root_place("update", "--restart", "always", made.name)
    first = made.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: made.pid not in (0, first), "another life")
    made.stop()


# Health.


def test_health_is_checked_and_told(root_place: Place) -> None:
    health = viscum.Health(
        ("sh", "-c", "echo looked; test -e /tmp/well"), interval=0.1, timeout=5, retries=2
    )
    made = machine(*SLEEP, health=health)
    until(lambda: made.status.health == "unhealthy", "unhealthy")
    assert made.status.failing >= 2
    assert "(unhealthy)" in root_place("ps")
    made.run(["touch", "/tmp/well"])
    until(lambda: made.status.health == "healthy", "healthy")
    state = json.loads(root_place("inspect", made.name))[0]["State"]
    assert state["Health"]["Log"][0]["Output"] == "looked\n"
    told = [dict(e.attributes)["health"] for e in viscum.events() if e.event == "health_status"]
    assert told == ["unhealthy", "healthy"]


def test_health_check_that_takes_too_long_is_killed_and_fails() -> None:
    health = viscum.Health(("sleep", "60"), interval=0.05, timeout=0.2, retries=1)
    made = machine(*SLEEP, health=health)
    until(lambda: made.status.health == "unhealthy", "unhealthy")
    made.stop()
    assert made.state == "exited"


def test_failures_in_the_start_period_do_not_count() -> None:
    health = viscum.Health(("false",), interval=0.05, timeout=1, retries=1, start_period=30)
    made = machine(*SLEEP, health=health)
    until(lambda: os.path.exists(made.record.path("health.json")), "a check")
    assert made.status.health == "starting"


# Faults.


def test_machine_lives_on_without_its_monitor_and_is_taken_over(root_place: Place) -> None:
    made = machine("sh", "-c", "trap 'echo bye; exit 5' TERM; while :; do echo x; sleep 0.02; done")
    status = made.status
    os.kill(status.monitor, signal.SIGKILL)
    until(lambda: made.monitor_is_lost, "the loss")
    assert is_running(status.pid)
    assert "(monitor lost)" in root_place("ps")
    before = len(log_records(made.record))
    done = root_place.result("exec", made.name, "true")
    assert done.returncode == 0
    assert b"was lost; it has a new one" in done.stderr
    until(lambda: len(log_records(made.record)) > before + 5, "more of the log")
    assert made.pid == status.pid
    assert made.stop() == 5
    assert log_records(made.record)[-1]["log"] == "bye\n"
    assert groups_of(made.id) == []


def _lose_monitor(made: viscum.DetachedMachine) -> None:
    os.kill(made.status.monitor, signal.SIGKILL)
    until(lambda: made.monitor_is_lost, "the loss")
    made.take_over()


def _keeper_of(made: viscum.DetachedMachine) -> int:
    text = pathlib.Path(made.record.path("status.json")).read_text(encoding="utf-8")
    return int(json.loads(text)["keeper"])


def test_keeper_that_the_status_names_holds_the_terminal() -> None:
    """And nothing else of its monitor, which may be lost from then on."""
    made = [machine("sleep", "600", fixed={"tty": True}) for _ in range(5)]
    held = [os.listdir(f"/proc/{keeper}/fd") for keeper in map(_keeper_of, made)]
    assert [sorted(one) for one in held] == [list("01234")] * 5
    assert {os.readlink(f"/proc/{_keeper_of(one)}/fd/3") for one in made} == {"/dev/pts/ptmx"}


def test_terminal_outlives_a_monitor() -> None:
    made = machine("sh", "-c", "while read line; do echo got $line; done", fixed={"tty": True})
    for word in (b"one", b"two"):
        _lose_monitor(made)
        with made.attach() as client:
            client.send(word + b"\n")
            seen = b""
            while b"got " + word not in seen:
                seen += client.receive().data
    keeper = _keeper_of(made)
    assert is_running(keeper)
    made.remove(force=True)
    until(lambda: not is_running(keeper), "the keeper's end")


def test_standard_input_outlives_a_monitor_and_can_still_be_closed() -> None:
    made = machine("sh", "-c", "cat; exit 6", interactive=True)
    _lose_monitor(made)
    with made.attach() as client:
        client.send(b"after\n")
        assert client.receive().data == b"after\n"
        client.close_input()
    assert made.wait() == 6


def test_machine_that_lost_its_keeper_too_goes_on_without_input() -> None:
    made = machine("sh", "-c", "cat; echo no more; exec sleep 600", interactive=True)
    os.kill(_keeper_of(made), signal.SIGKILL)
    _lose_monitor(made)
    until(lambda: [entry.text for entry in made.logs()] == ["no more\n"], "the end of its input")
    assert made.state == "running"


def test_output_of_a_child_is_found_where_the_first_process_has_none_of_it() -> None:
    script = "(while :; do echo child; sleep 0.02; done) & exec >/dev/null 2>&1 sleep 600"
    made = machine("sh", "-c", script)
    until(lambda: len(log_records(made.record)) > 2, "output")
    os.kill(made.status.monitor, signal.SIGKILL)
    until(lambda: made.monitor_is_lost, "the loss")
    before = len(log_records(made.record))
    made.take_over()
    until(lambda: len(log_records(made.record)) > before + 5, "more of the log")


def test_machine_that_ends_without_its_monitor_is_found_ended(root_place: Place) -> None:
    made = machine(*SLEEP)
    status = made.status
    os.kill(status.monitor, signal.SIGKILL)
    os.kill(status.pid, signal.SIGKILL)
    until(lambda: made.state == "exited", "the end")
    assert "its monitor was lost" in root_place("ps", "-a")
    made.start()
    assert made.state == "running"
    made.remove(force=True)
    assert groups_of(made.id) == []


def test_machine_ends_with_its_monitor_where_that_was_asked_for() -> None:
    made = machine(*SLEEP, fixed={"ends_with_monitor": True})
    status = made.status
    os.kill(status.monitor, signal.SIGKILL)
    until(lambda: not is_running(status.pid), "the end")


def test_machine_that_closes_its_streams_goes_on() -> None:
    made = machine("sh", "-c", "exec >&- 2>&- <&-; sleep 0.3; exit 4")
    assert made.wait() == 4


@needs("pids")
def test_ten_thousand_children_end_with_the_machine() -> None:
    script = "for n in $(seq 10000); do sleep 600 & done; wait"
    made = machine("sh", "-c", script, pids=2000)
    until(lambda: made.status.state != "running" or _children(made) > 1000, "children", 60)
    begin = time.monotonic()
    made.remove(force=True)
    assert time.monotonic() - begin < 20
    assert groups_of(made.id) == []


def _children(made: DetachedMachine) -> int:
    for group in groups_of(made.id):
        path = pathlib.Path(group, "pids.current")
        if path.exists():
            return int(path.read_text())
    return 0


@needs("memory")
def test_lack_of_memory_is_told() -> None:
    script = "x = [bytearray(1 << 20) for _ in range(300)]"
    made = machine("/usr/bin/python3", "-c", script, memory="32m", memory_swap="32m")
    assert made.wait() == 137
    assert made.status.oom == 1
    assert "oom" in [event.event for event in viscum.events()]


def test_idle_machines_wake_nobody() -> None:
    made = machine(*SLEEP, health=None)
    monitor = made.status.monitor

    def switches() -> int:
        text = pathlib.Path(f"/proc/{monitor}/status").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)

    time.sleep(0.3)
    before = switches()
    time.sleep(2)
    assert switches() == before


def test_events_are_told_in_their_order(root_place: Place) -> None:
    root_place("run", "-d", "--name", "box", "--", *SLEEP)
    root_place("rename", "box", "other")
    root_place("stop", "other")
    root_place("rm", "other")
    told = [(event.event, event.name) for event in viscum.events()]
    assert told == [
        ("create", "box"),
        ("start", "box"),
        ("rename", "other"),
        ("die", "other"),
        ("stop", "other"),
        ("remove", "other"),
    ]


def test_monitor_refuses_what_is_no_folder_of_a_machine(tmp_path: pathlib.Path) -> None:
    from viscum.supervising import MONITOR

    for words in ([], [str(tmp_path)], ["--adopt", str(tmp_path)], ["/no/such"], ["a", "b", "c"]):
        with open("/dev/null", "wb") as report:
            done = subprocess.run(
                [MONITOR, *words], timeout=20, check=False, pass_fds=[], stdout=report
            )
        assert done.returncode in (0, 125)


def test_connection_is_refused_with_one_error_where_nobody_answers() -> None:
    made = viscum.Machine.create(["true"])
    with pytest.raises(viscum.MachineError, match="created"):
        made.attach()
    with pytest.raises(viscum.MachineError, match="does not answer"):
        Attachment.to(made.record)
