"""`viscum governor`: its words, its errors, and the simulation."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viscum import SpecError
from viscum.governor.manners import LATENCY
from viscum.governor.simulate import WARM_UP, Score, replay, replay_fixed
from viscum.governor.traces import Trace, read_traces
from viscum.limits import parse_cpu_bounds, parse_memory_bounds

VISCUM = os.path.join(sys.prefix, "bin", "viscum")
PEERS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "benchmarks/governor/peers.py")
DAY = 288


def viscum(*words: str, cwd: str = "/") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VISCUM, *words], capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )


def write_trace(path, machines: int = 3, seed: int = 1) -> str:
    chance = random.Random(seed)
    lines = [
        f"vm{n}," + ",".join(str(chance.randint(0, 60)) for _ in range(DAY))
        for n in range(machines)
    ]
    text = "\n".join(lines) + "\n"
    if str(path).endswith(".gz"):
        with gzip.open(path, "wt", encoding="ascii") as file:
            file.write(text)
    else:
        path.write_text(text)
    return str(path)


def test_simulation_prints_us_alone_where_there_are_no_peers(tmp_path):
    trace = write_trace(tmp_path / "day.csv")
    ran = viscum("governor", "simulate", "--format", "json", "--peers", "none", trace)
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)
    assert list(rows) == ["viscum"]
    assert 0 < rows["viscum"]["slack"] <= 0.25
    assert 0 < rows["viscum"]["unserved"] <= 0.005


def test_simulation_finds_the_peers_of_the_checkout_it_is_run_in(tmp_path):
    trace = write_trace(tmp_path / "day.csv.gz")
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(PEERS)))
    ran = viscum("governor", "simulate", "--format", "json", trace, trace, cwd=checkout)
    rows = json.loads(ran.stdout)
    assert set(rows) == {"viscum", "fixed-peak", "vpa", "autopilot"}
    assert rows["fixed-peak"]["unserved"] == 0.0
    assert rows["viscum"]["slack"] < min(
        row["slack"] for name, row in rows.items() if name != "viscum"
    )


def test_peers_that_others_could_have_written_are_not_run(tmp_path):
    folder = tmp_path / "benchmarks" / "governor"
    folder.mkdir(parents=True)
    peers = folder / "peers.py"
    peers.write_text("raise SystemExit(99)\n")
    trace = write_trace(tmp_path / "day.csv")
    peers.chmod(0o666)
    ran = viscum("governor", "simulate", "--format", "json", trace, cwd=str(tmp_path))
    assert ran.returncode == 0


def test_plain_and_packed_traces_are_the_same(tmp_path):
    plain, packed = write_trace(tmp_path / "a.csv"), write_trace(tmp_path / "a.csv.gz")
    assert read_traces(plain) == read_traces(packed)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "holds no samples"),
        ("vm0,1,2\nvm1,x,2\n", "line 2: 'x'"),
        ("vm0,1,-2\n", "'-2' is no percentage"),
        ("vm0,1,nan\n", "'nan'"),
        ("vm0,1,1e400\n", "'1e400'"),
        ("vm0,1\nvm1\n", "line 2: no samples"),
        ("vm0,nan,nan\n", "line 1: 'nan'"),
        ("vm0,1,,2\n", "line 1: '' is no percentage"),
        ("vm0,1_0\nvm1,1_0\n", "'1_0'"),
        ('vm0,"1,2\n', "line 1"),
    ],
)
def test_trace_that_makes_no_sense_is_one_clear_error(tmp_path, text, match):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SpecError, match=match):
        read_traces(str(tmp_path / "t.csv"))


def test_trace_that_is_cut_short_or_missing_is_one_clear_error(tmp_path):
    path = tmp_path / "t.csv.gz"
    with pytest.raises(SpecError, match="no such file"):
        read_traces(str(path))
    packed = gzip.compress(b"vm0,1,2,3\n" * 1000)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(SpecError, match=r"t\.csv\.gz"):
        read_traces(str(path))
    path.write_bytes(packed[:12] + b"\xff" * 20)
    with pytest.raises(SpecError, match=r"t\.csv\.gz"):
        read_traces(str(path))


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_any_bytes_are_a_trace_or_an_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    try:
        traces = read_traces(str(path))
    except SpecError:
        return
    assert all(0 <= sample < 1e6 for trace in traces for sample in trace.samples)


@pytest.mark.parametrize(
    "heading", ["name,sample,sample\n", "# made\n\nname,a,b\n", "name,0,300,600\n", ",0,1,2\n"]
)
def test_heading_is_left_out(tmp_path, heading):
    (tmp_path / "t.csv").write_text(heading + "vm0,10,20\n")
    assert read_traces(str(tmp_path / "t.csv")) == [Trace("vm0", (0.1, 0.2))]


def test_names_and_samples_may_be_quoted(tmp_path):
    (tmp_path / "t.csv").write_text('"a, b",10,"20",\n0,1,2,3\n')
    read = read_traces(str(tmp_path / "t.csv"))
    assert read == [Trace("a, b", (0.1, 0.2)), Trace("0", (0.01, 0.02, 0.03))]


# What the simulation means.


def test_score_of_a_fixed_limit_is_what_a_person_would_count():
    trace = Trace("m", (0.5,) * 24 + (0.2, 0.8))
    score = replay_fixed((1.0,) * 24 + (0.5, 0.5), trace, 300.0)
    assert score.given == pytest.approx(300.0)
    assert score.unused == pytest.approx(0.3 * 300)
    assert score.missed == pytest.approx(0.3 * 300)
    assert score.unserved == pytest.approx(0.3)
    assert score.slack == pytest.approx(0.3)


def test_first_hours_are_not_counted():
    early = replay(Trace("m", (0.3,) * 24), 300.0, LATENCY)
    assert early == Score(changes=early.changes)
    counted = replay(Trace("m", (0.3,) * 36), 300.0, LATENCY)
    assert counted.asked == pytest.approx(0.3 * (36 * 300 - WARM_UP))


def test_jump_is_missed_for_as_long_as_the_governor_takes():
    """Demand is not seen ahead: what is asked above the limit until it is raised is unserved."""
    before, after = (0.1,) * 36, (0.9,) * 12
    score = replay(Trace("m", before + after), 300.0, LATENCY)
    least = 0.1 * (0.9 - 0.1 * 1.2)
    assert least <= score.missed <= 6 * 0.1 * 0.9


@given(st.lists(st.floats(0, 3), min_size=30, max_size=60), st.sampled_from([1.0, 60.0, 300.0]))
@settings(max_examples=25)
def test_simulation_adds_up(samples, period):
    score = replay(Trace("m", tuple(samples)), period, LATENCY)
    assert score.given - score.unused == pytest.approx(score.asked - score.missed, abs=1e-6)
    assert 0 <= score.slack <= 1
    assert 0 <= score.unserved <= 1


SHAPES = {
    "steps": lambda n, _: 0.1 if n // 24 % 2 else 0.7,
    "ramp": lambda n, _: 0.1 + 0.8 * (n % 96) / 96,
    "noise": lambda _, chance: min(max(chance.gauss(0.4, 0.1), 0.0), 1.0),
    "day and night": lambda n, _: 0.8 if 96 <= n % 288 < 200 else 0.05,
    "spikes": lambda n, _: 0.95 if n % 13 == 0 else 0.1,
    "idle": lambda n, _: 0.01 if n % 3 else 0.02,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_load_stay_within_what_is_promised(shape):
    chance = random.Random(3)
    samples = tuple(SHAPES[shape](n, chance) for n in range(2 * DAY))
    score = replay(Trace(shape, samples), 300.0, LATENCY)
    assert score.slack <= 0.25
    assert score.unserved <= 0.005


# Bad words.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("simulate",), "there is no trace"),
        (("simulate", "/nonexistent"), "no such file"),
        (("simulate", "--period", "0", "x"), "period '0'"),
        (("simulate", "--period", "x", "x"), "period 'x'"),
        (("simulate", "--format", "xml", "x"), "format 'xml'"),
        (("simulate", "--class", "x", "x"), "class 'x'"),
        (("why",), "one machine is needed"),
        (("why", "--last", "0", "x"), "--last '0'"),
        (("why", "--format", "xml", "x"), "format 'xml'"),
        (("bogus",), "'bogus' is no command"),
        (("--cpus", "0"), "cpus '0'"),
        (("--cpus", "9999"), "this host has"),
        (("--memory", "9999T"), "this host has"),
        (("--memory", "-1"), "memory '-1'"),
    ],
)
def test_senseless_word_is_one_clear_error(words, said):
    ran = viscum("governor", *words)
    assert ran.returncode == 125
    assert said in ran.stderr
    assert not ran.stdout


def test_trace_that_is_not_counted_at_all_is_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("vm0,1,2,3\n")
    ran = viscum("governor", "simulate", str(tmp_path / "t.csv"))
    assert ran.returncode == 125
    assert "not counted" in ran.stderr


def test_unit_runs_this_governor_with_its_budget():
    ran = viscum("governor", "--cpus", "0.5", "--print-unit")
    assert f"ExecStart={VISCUM} governor --cpus 0.5" in ran.stdout
    assert "Restart=always" in ran.stdout


@pytest.mark.parametrize(
    "value", ["", "..", "1..", "..1", "2..1", "0..1", "a..b", "1..2..3", "-1..1", "0.1..9999", (1,)]
)
def test_senseless_bounds_in_cpus_are_refused(value):
    with pytest.raises(SpecError):
        parse_cpu_bounds(value)


@pytest.mark.parametrize(
    "value", ["", "..", "64M..", "1G..1M", "0..1M", "1K..1M", "1M..9999T", "1M..x", (1, 2, 3)]
)
def test_senseless_bounds_in_bytes_are_refused(value):
    with pytest.raises(SpecError):
        parse_memory_bounds(value)


def test_bounds_are_what_they_say():
    assert parse_cpu_bounds("0.5..1") == (0.5, 1.0)
    assert parse_cpu_bounds((0.5, 1)) == (0.5, 1.0)
    assert parse_memory_bounds("64M..1G") == (64 << 20, 1 << 30)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--class", "batch"), "without bounds"),
        (("--cpus", "0.1..1", "--class", "fast"), "'fast' is unknown"),
        (("--cpus", "1..0.5"), "above the upper"),
        (("--memory", "1M..9999T"), "this host has"),
    ],
)
def test_senseless_bounds_start_no_machine(words, said):
    ran = viscum("run", *words, "--", "true")
    assert ran.returncode == 125
    assert said in ran.stderr
