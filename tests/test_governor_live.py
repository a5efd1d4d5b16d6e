"""The live governor: real machines, real limits."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from array import array

import pytest

import viscum
from callers import make_caller, python_words
from needs import needs
from viscum import native
from viscum.governor import decisions, homes
from viscum.governor.crowding import Crowding
from viscum.governor.fleet import Decision, Fleet
from viscum.governor.groups import Handles
from viscum.governor.live import Live
from viscum.governor.manners import BATCH, Bounds
from viscum.governor.reclaiming import Reclaimer
from viscum.governor.roster import Governed
from viscum.governor.sweeping import Sweep
from viscum.launching import this_host

SPIN = ["sh", "-c", "while :; do :; done"]
PATIENCE = 20.0


@pytest.fixture
def places(folder, monkeypatch):
    """State folders of this test's own."""
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    return folder


def until(true, what: str, patience: float = PATIENCE):
    end = time.monotonic() + patience
    while not (value := true()):
        assert time.monotonic() < end, f"{what}: not within {patience} s"
        time.sleep(0.02)
    return value


def limit_of(machine) -> float:
    handles = Handles(this_host().cgroups, machine.id)
    try:
        return handles.cpus() or 0.0
    finally:
        handles.close()


def rules(name: str) -> list[str]:
    return [str(entry["rule"]) for entry in decisions.entries(name)]


@pytest.mark.v2
@needs("root", "cpu", "cgroup-v2")
def test_limit_follows_the_machine_and_the_reason_is_kept(places):
    with viscum.Governor(follow=False) as governor:
        with viscum.Machine(cpus="0.05..1.5", name="web") as machine:
            governor.add(machine)
            until(lambda: limit_of(machine) < 1.45, "lowered")
            governor.fleet.members["web"].cpu.envelope = 0.0
            until(lambda: limit_of(machine) < 0.5, "lowered further")
            low = limit_of(machine)
            process = machine.exec(SPIN)
            # quota and period are two files on version 1: read in between, they are no limit
            until(lambda: governor.limits()["web"]["cpus"] > max(0.8, low * 1.5), "raised")
            until(lambda: limit_of(machine) > max(0.8, low * 1.5), "written")
            assert limit_of(machine) == pytest.approx(governor.limits()["web"]["cpus"], abs=0.02)
            process.kill()
            process.wait()
    assert "lower" in rules("web")
    raised = [e for e in decisions.entries("web") if e["new"] > e["old"]]
    entry = raised[0]
    assert "throttled" in str(entry["rule"]) or "spending" in str(entry["rule"])
    assert "throttled at" in entry["signal"] or "just now" in entry["signal"]
    assert 0.05 <= entry["old"] < entry["new"] <= 1.5


@needs("root", "cpu", "cgroup-v1")
def test_weight_of_the_class_is_set_and_put_back(places):
    folder = dict(this_host().cgroups.v1)["cpu"]

    def shares(machine) -> str:
        with open(f"{folder}/{machine.id}/cpu.shares", encoding="ascii") as file:
            return file.read().strip()

    with (
        viscum.Machine(cpus="0.1..1", name="a") as one,
        viscum.Machine(cpus="0.1..1", cpu_shares=333, name="b") as two,
    ):
        with viscum.Governor(follow=False) as governor:
            governor.add(one, machine_class="batch")
            governor.add(two, machine_class="batch")
            assert shares(one) == "32"
            assert shares(two) == "333"
        assert shares(one) == "1024"


@needs("root", "cpu")
def test_second_governor_is_one_clear_error(places):
    with viscum.Governor(follow=False):
        with pytest.raises(viscum.ViscumError, match=f"runs already, as process {os.getpid()}"):
            viscum.Governor(follow=False).start()
    with viscum.Governor(follow=False):
        pass


@pytest.mark.v2
@needs("root", "cpu")
def test_bounds_that_do_not_fit_are_refused_and_change_nothing(places):
    with (
        viscum.Governor(cpus=0.5, follow=False) as governor,
        viscum.Machine(cpus="0.4..1", name="a") as one,
        viscum.Machine(cpus="0.2..1", name="b") as two,
    ):
        governor.add(one)
        with pytest.raises(viscum.SpecError, match="budget"):
            governor.add(two)
        with pytest.raises(viscum.SpecError, match="governed already"):
            governor.add(one)
        assert limit_of(two) == 1.0
        assert set(governor.limits()) == {"a"}
        governor.remove("a")
        governor.add(two)


@pytest.mark.parametrize(
    "budget",
    [{"cpus": value} for value in (0, -1, float("nan"), 999, "x", True)]
    + [{"memory": value} for value in (0, -5, 1 << 60, "64Q")],
    ids=str,
)
def test_budget_that_makes_no_sense_is_refused(budget):
    with pytest.raises(viscum.SpecError):
        viscum.Governor(**budget)


@needs("root", "cpu")
def test_governor_that_was_closed_does_not_start_again(places):
    with viscum.Governor(follow=False) as governor:
        pass
    with pytest.raises(viscum.ViscumError, match="is closed"):
        governor.start()


@needs("root", "cpu")
def test_group_is_governed_once_and_is_a_machines(places):
    with viscum.Governor(follow=False) as governor, viscum.Machine(cpus="0.1..1") as machine:
        for group in ("", "..", f"x/../{machine.id}"):
            with pytest.raises(viscum.SpecError, match="is no control group's name"):
                governor.add(group, cpus="0.1..1")
        governor.add(machine, name="once")
        with pytest.raises(viscum.SpecError, match="governed already"):
            governor.add(machine, name="twice")
        assert set(governor.limits()) == {"once"}


@needs("root", "cpu")
def test_machine_without_bounds_is_refused(places):
    with viscum.Governor(follow=False) as governor, viscum.Machine(cpus=1.0) as machine:
        with pytest.raises(viscum.SpecError, match="needs bounds"):
            governor.add(machine)
        with pytest.raises(viscum.HostError, match="no control group"):
            governor.add("viscum-nobody", cpus="0.1..1")


@pytest.mark.v2
@needs("root", "cpu")
def test_machine_that_ends_is_forgotten_and_the_others_go_on(places):
    with (
        viscum.Governor(follow=False) as governor,
        viscum.Machine(cpus="0.1..1", name="stays") as stays,
    ):
        governor.add(stays)
        with viscum.Machine(cpus="0.1..1", name="goes") as goes:
            governor.add(goes)
        until(lambda: set(governor.limits()) == {"stays"}, "forgotten")
        until(lambda: limit_of(stays) < 0.95, "still governed")


@pytest.mark.v2
@needs("root", "cpu")
def test_sum_of_limits_stays_within_the_budget(places):
    with viscum.Governor(cpus=1.0, follow=False) as governor:
        machines = [viscum.Machine(cpus="0.05..1", name=f"m{n}").start() for n in range(3)]
        try:
            for machine in machines:
                machine.exec(SPIN)
                governor.add(machine)
            until(lambda: sum(map(limit_of, machines)) <= 1.0, "within the budget")
            for _ in range(20):
                time.sleep(0.05)
                assert sum(map(limit_of, machines)) <= 1.0 + 0.01
                assert all(limit_of(machine) >= 0.05 for machine in machines)
        finally:
            for machine in machines:
                machine.close()


PROGRAM = """
import sys, time, viscum
governor = viscum.Governor(follow=False).start()
governor.add(sys.argv[1], name="m", cpus="0.1..1")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.v2
@needs("root", "cpu")
def test_governor_that_is_killed_leaves_limits_to_rest_at_and_a_new_one_takes_over(places):
    with viscum.Machine(cpus="0.1..1", name="m") as machine:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, machine.id], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout.readline() == "ready\n"
            until(lambda: limit_of(machine) < 0.8, "lowered")
            rest = places / "run" / "governor" / "rest"
            until(lambda: machine.id in rest.read_text(), "written down")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        found = limit_of(machine)
        with viscum.Governor(follow=False) as governor:
            governor.add(machine, cpus="0.1..1")
            first = governor.limits()["m"]["cpus"]
            assert first == pytest.approx(found, rel=0.01)
            time.sleep(1.0)  # past the time when viscum-rest would have set the limits
            assert limit_of(machine) == pytest.approx(governor.limits()["m"]["cpus"], rel=0.01)
            assert limit_of(machine) <= found


@pytest.mark.v2
@needs("root", "cpu")
def test_limits_are_set_to_rest_when_nobody_takes_over(places):
    with viscum.Machine(cpus="0.1..1", name="m") as machine:
        folder = places / "run" / "governor"
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        handles = Handles(this_host().cgroups, machine.id)
        (folder / "rest").write_text("".join(handles.rest_lines(0.77, None)) + "/none\t1\nbad\n")
        handles.close()
        from viscum.governor.resting import PROGRAM as REST

        command = [REST, str(folder / "lock"), str(folder / "rest"), "10"]
        subprocess.run(command, input=b"x", check=True, timeout=10)
        assert limit_of(machine) == 1.0
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=10)
        assert limit_of(machine) == pytest.approx(0.77)


READ_AGAIN = """
import os
file = os.open("/work/sparse", os.O_RDONLY)
while True:
    for at in range(0, 256 << 20, 1 << 20):
        os.pread(file, 1 << 20, at)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
"""


@needs("root", "memory", "python")
def test_hits_of_the_limit_that_is_lowered_to_reclaim_are_no_answer(places, tmp_path_factory):
    """On version 1 a machine that grows meanwhile hits it; its own limit is far away."""
    work = tmp_path_factory.mktemp("work")
    work.chmod(0o755)
    (work / "sparse").touch()
    os.truncate(work / "sparse", 256 << 20)
    mount = viscum.Mount(str(work), "/work", read_only=True)
    command = ["/usr/bin/python3", "-c", READ_AGAIN]
    fleet = Fleet(1.0, 1 << 30)
    member = fleet.add("m", BATCH, memory=(Bounds(1 << 20, 512 << 20), 512 << 20))
    with viscum.Machine(command, memory="1M..512M", name="m", mounts=[mount]) as machine:
        handles = Handles(this_host().cgroups, machine.id)
        live = Live(Governed("m", machine.id, BATCH), handles, member)
        reclaimer = Reclaimer()
        live.memory_view(0.0, swap=False)
        before = handles.memory().hits

        def hit_while_reclaiming() -> bool:
            reclaimer.ask(live, 1 << 20)
            until(lambda: not live.reclaiming, "reclaimed")
            assert not live.memory_view(time.monotonic(), swap=False).hit
            return handles.memory().hits > before

        until(hit_while_reclaiming, "hit", 40)
        reclaimer.close()
        handles.close()


@pytest.mark.v2
@needs("root", "memory")
def test_cold_pages_are_taken_back_and_the_limit_stays_above_what_is_used(places, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    work.chmod(0o777)
    mount = viscum.Mount(str(work), "/work")
    write = "dd if=/dev/zero of=/work/file bs=1M count=64 conv=fsync 2>/dev/null"
    with (
        viscum.Machine(memory="8M..512M", name="m", mounts=[mount], userns="host") as machine,
        viscum.Governor(follow=False) as governor,
    ):
        handles = Handles(this_host().cgroups, machine.id)
        machine.run(["sh", "-c", write])
        before = handles.memory_used()
        assert before > 48 << 20
        governor.add(machine)
        until(lambda: handles.memory_used() < before / 2, "taken back", 60)
        # A probe stands below it for a moment on version 1.
        until(lambda: handles.memory_limit() == 512 << 20, "set back")
        handles.close()


@pytest.mark.v2
@needs("root", "memory")
def test_memory_limits_share_a_short_budget(places):
    with (
        viscum.Governor(memory=256 << 20, follow=False) as governor,
        viscum.Machine(memory="16M..256M", name="a") as one,
        viscum.Machine(memory="16M..256M", name="b") as two,
    ):
        handles = [Handles(this_host().cgroups, machine.id) for machine in (one, two)]
        governor.add(one)
        governor.add(two)
        until(lambda: sum(h.memory_limit() for h in handles) <= 256 << 20, "within the budget")
        for each in handles:
            assert 16 << 20 <= each.memory_limit() <= 240 << 20
            assert each.memory_limit() > each.memory_used()
            each.close()


@needs("root", "cpu", "memory")
def test_limits_are_right_when_the_bounds_are_of_a_machine_that_lives_on(places):
    """`viscum run -d` with bounds is found by a governor in the foreground."""
    command = [os.path.join(sys.prefix, "bin", "viscum")]
    run = subprocess.run(
        [*command, "run", "-d", "--name", "web", "--cpus", "0.1..1", "--class", "batch"]
        + ["--", "sleep", "60"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    governor = subprocess.Popen([*command, "governor"], stderr=subprocess.PIPE, text=True)
    try:
        assert governor.stderr.readline().startswith("governing ")
        second = subprocess.run(
            [*command, "governor"], capture_output=True, text=True, check=False, timeout=60
        )
        assert second.returncode == 125
        assert "a governor runs already" in second.stderr

        def why():
            asked = [*command, "governor", "why", "--format", "json", "web"]
            said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
            return json.loads(said.stdout) if said.returncode == 0 else None

        rows = until(why, "explained")
        assert rows[0]["what"] == "cpus"
        assert rows[0]["new"] < rows[0]["old"] == 1.0
        governor.send_signal(signal.SIGTERM)
        assert governor.wait(20) == 0
    finally:
        governor.kill()
        governor.wait()
        governor.stderr.close()
        subprocess.run([*command, "rm", "-f", "web"], capture_output=True, check=True, timeout=60)


@needs("root", "cpu")
def test_bounds_of_a_machine_that_lives_on_change_while_it_is_governed(places):
    command = [os.path.join(sys.prefix, "bin", "viscum")]

    def call(*words):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    def limit():
        handles = Handles(this_host().cgroups, group)
        try:
            return handles.cpus()
        finally:
            handles.close()

    def treatment():
        member = governor.fleet.members.get("web")
        return member and (member.manner.name, member.cpu.bounds.low, member.cpu.bounds.high)

    def rests(cpus):
        until(lambda: not governor.limits() and limit() == cpus, "let go")
        time.sleep(1.0)
        assert limit() == cpus

    assert call("run", "-d", "--name", "web", "--cpus", "0.1..1", "--", "sleep", "60")[0] == 0
    try:
        group = viscum.Machine.find("web").config.group
        with viscum.Governor() as governor:
            until(lambda: limit() < 0.95, "governed")
            assert call("update", "--cpus", "0.7..1.2", "--class", "batch", "web") == (0, "")
            until(lambda: treatment() == ("batch", 0.7, 1.2), "governed otherwise")
            until(lambda: 0.7 <= limit() <= 1.2, "written")
            assert call("update", "--cpus", "0.3", "web") == (0, "")
            rests(0.3)
            assert call("update", "--cpus", "0.2..0.4", "web") == (0, "")
            until(lambda: "web" in governor.limits(), "governed again")
            for words, error in (
                (["--cpus", "1..0.5"], "the lower bound is above the upper one"),
                (["--cpus", "0.5..99"], "this host has"),
                (["--cpus", "0.3", "--class", "idle"], "without bounds says nothing"),
                (["--class", "quick"], "'quick' is unknown"),
            ):
                code, said = call("update", *words, "web")
                assert (code, error in said) == (125, True), said
            assert treatment() == ("latency", 0.2, 0.4)
    finally:
        call("rm", "-f", "web")


@needs("root", "cpu")
def test_machine_that_lives_on_and_does_not_fit_is_told(places):
    command = [os.path.join(sys.prefix, "bin", "viscum")]

    def call(*words):
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)

    said = places / "said"
    with said.open("w") as stderr:
        governor = subprocess.Popen([*command, "governor", "--cpus", "0.5"], stderr=stderr)
    try:
        until(lambda: said.read_text().startswith("governing "), "ready")
        started = call("run", "-d", "--name", "big", "--cpus", "0.6..1", "--", "sleep", "60")
        assert started.returncode == 0
        until(lambda: "big is not governed, its limits stay" in said.read_text(), "told")
        assert "the lower bounds add up to 0.6, the budget is 0.5" in said.read_text()
        assert "the lower bounds add up" in call("governor", "why", "big").stdout
        assert call("update", "--cpus", "0.1..1", "big").returncode == 0
        until(lambda: "lower" in call("governor", "why", "big").stdout, "governed")
        assert rules("big").count("refused") == 1
    finally:
        governor.kill()
        governor.wait()
        call("rm", "-f", "big")


@needs("root", "cpu", "cgroup-v1", "cgroup-v2")
def test_machine_whose_group_goes_while_its_limit_is_written_is_forgotten(places):
    """It still has another group, so that it could be taken for whole."""
    with viscum.Machine(cpus="0.1..1") as machine:
        governor = viscum.Governor(follow=False)
        governor._take_over()
        try:
            governor.add(machine, name="torn")
            live = governor._crew.lives["torn"]
            folder = live.handles.v1["cpu"]
            for task in pathlib.Path(folder, "tasks").read_text().split():
                pathlib.Path(os.path.dirname(folder), "tasks").write_text(task)
            os.rmdir(folder)
            governor.fleet.throttled("torn", 0.01, time.monotonic())
            live.member.cpu.want = 0.5
            governor._applier.apply(time.monotonic())
            assert not governor.limits()
        finally:
            governor.close()


@needs("root", "cpu")
def test_machine_in_the_foreground_is_found_too(places):
    command = [os.path.join(sys.prefix, "bin", "viscum"), "run", "--cpus", "0.1..1", "--"]
    with viscum.Governor() as governor:
        for _ in range(2):  # the second time a plan could have been remembered
            process = subprocess.Popen([*command, "sleep", "30"])
            try:
                until(governor.limits, "found")
            finally:
                process.terminate()
                process.wait()
            until(lambda: not governor.limits(), "forgotten")


@needs("root", "io", "cgroup-v1", "cgroup-v2")
def test_io_of_a_noisy_neighbour_is_capped_and_let_go(places, monkeypatch):
    """Groups are made by hand: what is written on the disk is not what matters here."""
    cgroups = this_host().cgroups
    blkio = dict(cgroups.v1)["blkio"]
    group = "viscum-test-io"
    folders = [f"{blkio}/{group}", f"{cgroups.v2}/{group}"]
    with open("/proc/partitions", encoding="ascii") as file:
        major, minor = file.read().split("\n")[2].split()[:2]
    device = f"{major}:{minor}"
    for folder in folders:
        os.mkdir(folder)
    try:
        handles = Handles(cgroups, group)
        member = Fleet(1.0, 1.0).add("job", BATCH)
        live = Live(Governed("job", group, BATCH), handles, member)
        crowding = Crowding()
        crowding._bytes["job"] = (0, (device,))
        crowding._cap(live, 5e6)
        path = f"{folders[0]}/blkio.throttle.write_bps_device"
        with open(path, encoding="ascii") as file:
            assert file.read() == f"{device} 5000000\n"
        assert any(line == f"{path}\t{device} 0\n" for line in crowding.rest_lines(live))
        crowding.forget(live)
        with open(path, encoding="ascii") as file:
            assert file.read() == ""
        handles.close()
    finally:
        for folder in folders:
            os.rmdir(folder)


# The sweep.


def test_sweep_reports_what_rose_and_what_cannot_be_read(tmp_path):
    texts = {
        "pressure": "some avg10=0.00 total=900\nfull avg10=0.00 avg60=0.00 total=5000\n",
        "stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 1\n",
        "odd": "nothing of the kind\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in texts]
    closed = os.open(tmp_path, os.O_RDONLY)
    try:
        totals = array("q", [0, 0, 0, 0])
        found = native.watch(array("i", [*fds, closed]), totals, 2)
        assert found == [0, 1, -3, -4]
        assert list(totals)[:2] == [5000, 3]
        assert native.watch(array("i", fds[:2]), totals[:2], 1) == []
        with pytest.raises(ValueError, match="a row for each descriptor"):
            native.watch(array("i", fds), array("q", [0]), 1)
    finally:
        for fd in (*fds, closed):
            os.close(fd)


def test_sweep_tells_who_spends(tmp_path):
    paths = [tmp_path / "v2", tmp_path / "v1", tmp_path / "odd"]
    fds = []
    for path, text in zip(
        paths, ("usage_usec 1000\nuser_usec 5\n", "1000000\n", "x\n"), strict=True
    ):
        path.write_text(text)
        fds.append(os.open(path, os.O_RDONLY))
    try:
        figures = array("d", [0.0, 0.0, 50_000.0, 0.1, 0.0] * 3)
        assert native.watch_use(array("i", fds), figures, 1e5) == []
        paths[0].write_text("usage_usec 101000\n")  # 100 ms in 100 ms
        paths[1].write_text("11000000\n")  # 10 ms: as much as it may
        assert native.watch_use(array("i", fds), figures, 1e5) == [0]
        assert figures[1] == pytest.approx(90_000.0)
        assert (figures[4], figures[9]) == (pytest.approx(1.0), pytest.approx(0.1))
        assert native.watch_use(array("i", fds), figures, 1e6) == []  # it rested
        with pytest.raises(ValueError, match="a row for each descriptor"):
            native.watch_use(array("i", fds), array("d", [0.0]), 1.0)
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.v2
@needs("root", "cpu", "cpuset")
def test_batch_machines_are_kept_on_a_cpu_each_and_let_go(places, monkeypatch):
    monkeypatch.setattr(homes, "BUSY_CPUS", 0.02)  # others of the host may be at work, too
    count = len(os.sched_getaffinity(0))

    def said(machine, controller: str, file: str) -> str:
        path = f"{machine.groups.folder(controller)}/{controller}.{file}"
        with open(path, encoding="ascii") as opened:
            return opened.read().strip()

    machines = [viscum.Machine(SPIN, cpus="0.01..1", name=f"job{n}").start() for n in range(count)]
    web = viscum.Machine(["sleep", "600"], cpus="0.05..0.1", name="web").start()
    weight = "weight" if web.groups.layout == "v2" else "shares"
    files = [("cpuset", "cpus"), ("cpu", "idle"), ("cpu", weight)]
    try:
        before = [said(machines[0], *file) for file in files]
        with viscum.Governor(follow=False) as governor:
            governor.add(web)
            for machine in machines:
                governor.add(machine, machine_class="batch")
            everywhere = {str(cpu) for cpu in os.sched_getaffinity(0)}
            until(lambda: {said(m, "cpuset", "cpus") for m in machines} == everywhere, "kept")
            assert {said(machine, "cpu", "idle") for machine in machines} == {"1"}
            machines.pop().close()
            until(lambda: said(machines[0], "cpu", "idle") == "0", "let go")
        assert [said(machines[0], *file) for file in files][1:] == before[1:]
        assert said(machines[0], "cpuset", "cpus") not in everywhere
    finally:
        for machine in (*machines, web):
            machine.close()


def test_wait_ends_when_it_is_stopped():
    sweep = Sweep()
    try:
        assert sweep.wait(0.01)
        sweep.stop()
        assert not sweep.wait(60.0)
    finally:
        sweep.close()


# The journal.


def test_journal_stays_within_its_bound_and_skips_what_a_crash_cut_short(places, monkeypatch):
    monkeypatch.setattr(decisions, "MAX_SIZE", 4000)
    journal = decisions.Journal()
    for number in range(200):
        made = Decision(f"m{number % 2}", "cpus", 1.0, 2.0, "throttled", "x")
        journal.note([made], float(number))
    journal.close()
    base = f"{decisions.governor_folder()}/decisions"
    with open(base, "a", encoding="utf-8") as file:
        file.write('{"time": 1, "na')
    assert os.path.getsize(base) + os.path.getsize(base + ".1") < 9000
    kept = list(decisions.entries("m1"))
    assert kept[-1]["time"] == 199.0
    assert {entry["name"] for entry in kept} == {"m1"}


# A user's governor.


@pytest.fixture
def delegated(caller_with_ids, folder):
    """Groups of version 1 and 2 that are the user's own, and how to run a command in them."""
    cgroups = this_host().cgroups
    made = [f"{top}/viscum-test-user" for top in (*dict(cgroups.v1).values(), cgroups.v2) if top]
    for path in made:
        os.mkdir(path)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{path}/{name}"):
                with open(f"{os.path.dirname(path)}/{name}", encoding="ascii") as file:
                    text = file.read()
                with open(f"{path}/{name}", "w", encoding="ascii") as file:
                    file.write(text)
        for name in (".", *os.listdir(path)):
            os.chown(f"{path}/{name}", caller_with_ids.uid, -1)
    enter = "; ".join(f"echo $$ > {path}/cgroup.procs" for path in made)
    try:
        yield ["sh", "-c", f'{enter}; exec "$@"', "sh"]
    finally:
        for path in made:
            for name in os.listdir(path):
                if os.path.isdir(f"{path}/{name}"):
                    os.rmdir(f"{path}/{name}")
            os.rmdir(path)


@pytest.fixture
def caller_with_ids():
    return make_caller("subids")


@needs("root", "subuid", "userns", "namespace-tools", "cpu", "cgroup-v1", "cgroup-v2")
def test_governor_of_a_user_governs_in_groups_that_are_delegated(
    caller_with_ids, delegated, folder
):
    own = {"VISCUM_RUN": str(folder / "run"), "VISCUM_DATA": str(folder / "data")}
    os.chown(folder, caller_with_ids.uid, -1)
    options = {"env": {**caller_with_ids.environment(), **own}, "cwd": folder, "text": True}
    viscum_words = caller_with_ids.command(*python_words(False), "-m", "viscum")

    def call(*words, inside=True):
        command = [*(delegated if inside else []), *viscum_words, *words]
        return subprocess.run(command, capture_output=True, check=False, timeout=60, **options)

    refused = call("governor", inside=False)
    assert refused.returncode == 125
    assert "no control groups to govern" in refused.stderr
    governor = subprocess.Popen(
        [*delegated, *viscum_words, "governor"], stderr=subprocess.PIPE, **options
    )
    try:
        assert governor.stderr.readline().startswith("governing ")
        made = call("run", "-d", "--name", "web", "--cpus", "0.1..1", "--", "sleep", "60")
        assert made.returncode == 0, made.stderr
        until(lambda: call("governor", "why", "web").returncode == 0, "governed")
    finally:
        call("rm", "-f", "web")
        governor.terminate()
        assert governor.wait(20) == 0
        governor.stderr.close()
