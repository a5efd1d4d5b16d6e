"""The governor's policies: the invariants, as properties, against a model of a host."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hostmodel import HostModel
from viscum import SpecError
from viscum.governor.budget import Claim, share_out
from viscum.governor.cpu import Cpu
from viscum.governor.fleet import Fleet
from viscum.governor.invariants import broken_invariants
from viscum.governor.learning import DAY, DayProfile, Histogram
from viscum.governor.manners import BATCH, CLASSES, IDLE, LATENCY, Bounds, manner_of
from viscum.governor.memory import LEAST_MARGIN, Memory, MemoryView
from viscum.governor.neighbours import TRIES, Neighbours, Party

MIB = 1 << 20
GIB = 1 << 30
EPSILON = 1e-6
CLASS_NAMES = st.sampled_from(sorted(CLASSES))
LEVELS = st.floats(0, 64)


# The budget.

CLAIMS = st.lists(
    st.builds(
        Claim, st.floats(0.01, 4), st.floats(0.01, 16), st.integers(0, 2), st.floats(0.1, 10)
    ),
    min_size=1,
    max_size=8,
)


@given(CLAIMS, st.floats(0.1, 40))
def test_share_is_between_what_is_owed_and_what_is_wanted(claims, budget):
    for claim, got in zip(claims, share_out(budget, claims), strict=True):
        assert claim.low <= got <= max(claim.low, claim.want) + EPSILON


@given(CLAIMS, st.floats(0.1, 40))
def test_shares_stay_within_the_budget(claims, budget):
    owed = sum(claim.low for claim in claims)
    assert sum(share_out(budget, claims)) <= max(budget, owed) * (1 + EPSILON)


@given(CLAIMS, st.floats(0.1, 40))
def test_nothing_is_left_while_somebody_wants_more(claims, budget):
    given_ = share_out(budget, claims)
    short = any(got < claim.want - 1e-3 for got, claim in zip(given_, claims, strict=True))
    if short and sum(claim.low for claim in claims) < budget:
        assert sum(given_) >= budget - 1e-3


@given(CLAIMS, st.floats(0.1, 40))
def test_lower_class_gets_more_than_it_is_owed_only_once_the_higher_has_all(claims, budget):
    given_ = share_out(budget, claims)
    for claim, got in zip(claims, given_, strict=True):
        if got > claim.low + 1e-3:
            for other, other_got in zip(claims, given_, strict=True):
                if other.rank < claim.rank:
                    assert other_got >= other.want - 1e-3


@given(CLAIMS, st.floats(0.1, 40))
def test_within_a_class_nobody_has_more_than_who_wants_more(claims, budget):
    """Max-min fairness: taking from one above his owed share would always go to one with less."""
    given_ = share_out(budget, claims)
    for claim, got in zip(claims, given_, strict=True):
        for other, other_got in zip(claims, given_, strict=True):
            hungry = other.rank == claim.rank and other_got < other.want - 1e-3
            if hungry and got > claim.low + 1e-3:
                assert got / claim.weight <= other_got / other.weight * (1 + 1e-3) + 1e-3


def test_machine_whose_lower_bound_does_not_fit_is_refused_and_changes_nothing():
    fleet = Fleet(2.0, GIB)
    fleet.add("a", LATENCY, cpus=(Bounds(1.5, 2.0), 2.0))
    with pytest.raises(SpecError, match="budget"):
        fleet.add("b", BATCH, cpus=(Bounds(1.0, 2.0), 2.0))
    with pytest.raises(SpecError, match="budget"):
        fleet.add("c", BATCH, memory=(Bounds(2 * GIB, 3 * GIB), 2 * GIB))
    assert list(fleet.members) == ["a"]


# CPU, one machine.

EVENTS = st.lists(
    st.tuples(st.booleans(), LEVELS, st.floats(0, 1), st.floats(0.001, 100)), max_size=40
)


@given(EVENTS, st.floats(0.01, 4), st.floats(0, 60), LEVELS, CLASS_NAMES)
def test_cpu_limit_stays_within_bounds_whatever_is_seen(events, low, room, start, kind):
    bounds = Bounds(low, low + room)
    cpu, now = Cpu(manner_of(kind), bounds, start), 0.0
    for held, used, share, seconds in events:
        now += seconds
        if held:
            cpu.throttled(cpu.want, seconds * share, now)
        else:
            cpu.look(used, share, seconds, now)
        assert bounds.low <= cpu.want <= bounds.high
        assert bounds.low <= cpu.rest() <= bounds.high
        assert 0 < cpu.look_after <= 16


@given(st.floats(0.01, 0.1), st.floats(0.5, 64), CLASS_NAMES)
def test_squeezed_machine_has_what_it_asks_for_within_a_second(low, demand, kind):
    host = HostModel(cpus=64)
    host.add("m", lambda now: demand if now >= 600 else 0.0, (low, 64.0), kind)
    host.run(600)
    assert host.limit("m") <= max(low, 0.02) * 1.2
    host.run(1.0)
    assert host.limit("m") >= demand * 0.999


@given(st.floats(0.02, 1.9), st.floats(0, 0.04), CLASS_NAMES, st.integers(0, 1 << 30))
@settings(max_examples=25)
def test_steady_load_sees_no_swinging(level, noise, kind, seed):
    chance = random.Random(seed)
    host = HostModel(cpus=4)
    host.add("m", lambda _now: level * (1 + chance.uniform(-noise, noise)), (0.01, 4.0), kind)
    host.run(600)
    settled = len(host.history)
    host.run(1800)
    changes = host.history[settled:]
    assert len(changes) <= 4
    for _, _, old, new in changes:
        assert abs(new - old) < 0.15 * old
    assert level <= host.limit("m") <= level * 1.35 + 0.01


@given(st.floats(0.1, 1.5), CLASS_NAMES)
@settings(max_examples=20)
def test_limit_follows_the_load_down_without_haste(level, kind):
    host = HostModel(cpus=4)
    host.add("m", lambda now: level if now < 100 else level / 10, (0.01, 4.0), kind)
    host.run(102)
    assert host.limit("m") > level / 2
    host.run(200)
    assert host.limit("m") < level / 10 * 1.5 + 0.02


def test_bursts_that_an_average_hides_are_learned():
    """A machine that works for 100 ms of each second is not throttled again and again."""
    host = HostModel(cpus=4)
    host.add("m", lambda now: 2.0 if int(now * 10 + 0.5) % 10 == 0 else 0.0, (0.01, 4.0))
    host.run(300)
    before = len(host.history)
    host.run(300)
    raised = [row for row in host.history[before:] if row[3] > row[2] * 1.5]
    assert len(raised) < 30


def test_ramp_is_met_before_it_throttles():
    host = HostModel(cpus=4)
    host.add("m", lambda now: 0.5 + now / 200, (0.01, 4.0))
    host.run(400)
    assert not any(new > old * 1.5 for _, _, old, new in host.history)


def test_time_of_day_is_expected_once_it_came_true():
    day = DayProfile()
    for minute in range(5 * 24 * 60):
        day.add(minute * 60.0, 3.0 if 9 <= minute // 60 % 24 < 17 else 0.5, 60.0)
    assert day.forecast(5 * DAY + 8.99 * 3600) == pytest.approx(3.0)
    assert day.forecast(5 * DAY + 3 * 3600) == pytest.approx(0.5)


def test_time_of_day_that_never_repeats_is_not_trusted():
    day, chance = DayProfile(), random.Random(1)
    for half_hour in range(10 * 48):
        day.add(half_hour * 1800.0, chance.choice([0.1, 4.0]), 1800.0)
    assert day.forecast(10 * DAY) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0.1, 1e6)), min_size=1, max_size=50))
def test_quantiles_of_the_histogram_rise(samples):
    histogram = Histogram()
    for level, seconds in samples:
        histogram.add(level, seconds)
    marks = [histogram.quantile(share) for share in (0.1, 0.5, 0.9, 1.0)]
    assert marks == sorted(marks)
    other = Histogram()
    other.load(histogram.dump())
    assert other.quantile(0.9) == pytest.approx(histogram.quantile(0.9))


@given(st.recursive(st.none() | st.floats() | st.text(), st.lists, max_leaves=60))
def test_anything_in_place_of_what_was_learned_is_left_out(kept):
    histogram, day = Histogram(), DayProfile()
    histogram.load(kept)
    day.load(kept)
    assert histogram.quantile(0.5) == 0.0
    assert day.forecast(0.0) == 0.0


# The fleet.


class AnyFleet(RuleBasedStateMachine):
    """Whatever machines come, go, and do: bounds and budget hold after each decision."""

    @initialize(cpus=st.floats(1, 16), memory=st.integers(GIB, 16 * GIB))
    def start(self, cpus, memory):
        self.fleet = Fleet(cpus, float(memory))
        self.now, self.count = 0.0, 0
        self.limits = {}

    @rule(kind=CLASS_NAMES, low=st.floats(0.01, 2), room=st.floats(0, 16), found=LEVELS)
    def add(self, kind, low, room, found):
        name = f"m{self.count}"
        self.count += 1
        memory = (Bounds(64 * MIB, 4 * GIB), found * GIB / 16)
        try:
            member = self.fleet.add(
                name, manner_of(kind), cpus=(Bounds(low, low + room), found), memory=memory
            )
        except SpecError:
            assert name not in self.fleet.members
            return
        member.memory.used = int(min(found * GIB / 16, GIB // 8))
        self.limits[name] = found
        self.decide()

    def some(self, data):
        names = sorted(self.fleet.members)
        return data.draw(st.sampled_from(names)) if names else None

    @rule(data=st.data())
    def remove(self, data):
        name = self.some(data)
        self.fleet.remove(name or "")
        self.limits.pop(name, None)

    @rule(data=st.data(), lost=st.floats(0, 1))
    def throttle(self, data, lost):
        name = self.some(data)
        if name:
            self.fleet.throttled(name, lost, self.now)
            self.decide()

    @rule(data=st.data(), used=LEVELS, share=st.floats(0, 1), seconds=st.floats(0.01, 60))
    def look(self, data, used, share, seconds):
        name = self.some(data)
        self.now += seconds
        if name:
            self.fleet.look_cpu(name, used, share, seconds, self.now)
            self.decide()

    @rule(data=st.data(), waited=st.floats(0, 1))
    def crowd(self, data, waited):
        name = self.some(data)
        if name:
            self.fleet.look_neighbours({name: waited})
            self.decide()

    @rule(
        data=st.data(), used=st.integers(0, GIB // 8), pressure=st.floats(0, 1), hit=st.booleans()
    )
    def look_memory(self, data, used, pressure, hit):
        name = self.some(data)
        self.now += 2
        if name:
            member = self.fleet.members[name]
            amount = self.fleet.look_memory(name, MemoryView(used, pressure, 0, hit), self.now)
            assert 0 <= amount <= max(used - member.memory.bounds.low, 0)
            self.decide()

    def decide(self):
        for decision in self.fleet.decide():
            if decision.what == "cpus":
                assert decision.old == self.limits[decision.name]
                before = sum(self.limits.values())
                self.limits[decision.name] = decision.new
                now = sum(self.limits.values())
                assert now <= max(self.fleet.cpus, before) * (1 + EPSILON)

    @invariant()
    def holds(self):
        if not hasattr(self, "fleet"):
            return
        members = self.fleet.members.values()
        given_ = {m.name: m.cpu_limit for m in members}
        bounds = {m.name: m.cpu.bounds for m in members}
        assert not broken_invariants("cpus", given_, bounds, self.fleet.cpus)
        rest = self.fleet.rest_cpus()
        assert not broken_invariants("rest", rest, bounds, self.fleet.cpus)


TestAnyFleet = AnyFleet.TestCase
TestAnyFleet.settings = settings(max_examples=60, stateful_step_count=30)


def test_broken_invariants_are_named():
    bounds = {"a": Bounds(0.5, 1.0), "b": Bounds(0.5, 1.0)}
    wrong = broken_invariants("cpus", {"a": 2.0, "b": 0.1}, bounds, 1.5)
    assert len(wrong) == 3
    assert broken_invariants("memory", {"a": 0.6}, bounds, 2.0, {"a": 0.7})


def test_fleet_refuses_to_hand_out_what_breaks_an_invariant(monkeypatch):
    fleet = Fleet(1.0, GIB)
    fleet.add("a", LATENCY, cpus=(Bounds(0.1, 2.0), 1.5))
    monkeypatch.setattr("viscum.governor.fleet.share_out", lambda _budget, _claims: [7.0])
    with pytest.raises(AssertionError, match="outside"):
        fleet.decide()
    assert fleet.members["a"].cpu_limit == 1.5


def test_new_governor_takes_over_without_a_jump():
    first = HostModel(cpus=4)
    first.add("a", lambda _now: 1.0, (0.05, 4.0))
    first.add("b", lambda _now: 0.2, (0.05, 4.0), "batch")
    first.run(120)
    second = HostModel(cpus=4)
    for name, demand, kind in (("a", 1.0, "latency"), ("b", 0.2, "batch")):
        second.add(name, lambda _now, d=demand: d, (0.05, 4.0), kind, limit=first.limit(name))
    second.run(60)
    for name in ("a", "b"):
        assert second.limit(name) == pytest.approx(first.limit(name), rel=0.12)
    assert all(abs(new - old) < 0.12 * old for _, _, old, new in second.history)


# Hostile machines.


def test_faked_idleness_buys_nothing():
    """A machine that was idle for an hour and then takes all it can leaves the other its share."""
    host = HostModel(cpus=2)
    host.add("honest", lambda _now: 2.0, (0.1, 2.0))
    host.add("hostile", lambda now: 0.0 if now < 600 else 2.0, (0.1, 2.0))
    host.run(600)
    assert host.limit("honest") > 1.8
    host.run(5)
    assert host.limit("honest") == pytest.approx(1.0, rel=0.02)


def test_burst_gets_its_due_back_within_a_second_from_whoever_borrowed_it():
    host = HostModel(cpus=2)
    host.add("batch", lambda _now: 2.0, (0.1, 2.0), "batch")
    host.add("web", lambda now: 0.05 if now < 300 else 1.8, (0.05, 2.0))
    host.run(300)
    assert host.limit("batch") > 1.7
    host.run(1.0)
    assert host.limit("web") >= 1.8
    assert host.limit("batch") >= 0.1


def test_flapping_machine_does_not_keep_others_from_what_they_are_owed():
    host = HostModel(cpus=2)
    host.add("steady", lambda _now: 0.9, (0.5, 2.0), "batch")
    host.add("flapping", lambda now: 2.0 if int(now) % 2 else 0.0, (0.1, 2.0), "batch")
    host.run(120)
    lowest = min(new for _, name, _, new in host.history if name == "steady")
    assert lowest >= 0.5
    assert host.limit("steady") >= 0.9


@pytest.mark.parametrize("count", [3, 20])
def test_many_greedy_machines_get_equal_shares(count):
    host = HostModel(cpus=2)
    for number in range(count):
        host.add(f"m{number}", lambda _now: 2.0, (0.02, 2.0))
    host.run(30)
    for number in range(count):
        assert host.limit(f"m{number}") == pytest.approx(2.0 / count, rel=0.05)


# Memory.

VIEWS = st.lists(
    st.builds(
        MemoryView,
        st.integers(0, 8 * GIB),
        st.floats(0, 1),
        st.integers(0, GIB),
        st.booleans(),
        st.floats(0.1, 60),
    ),
    max_size=40,
)


@given(VIEWS, CLASS_NAMES, st.booleans())
def test_memory_limit_wanted_stays_within_bounds(views, kind, pressed):
    bounds = Bounds(64 * MIB, 4 * GIB)
    memory, now = Memory(manner_of(kind), bounds, GIB), 0.0
    for view in views:
        now += view.seconds
        memory.look(view, now, pressed=pressed)
        assert bounds.low <= memory.want <= bounds.high
        assert 0 <= memory.reclaim <= max(view.used - bounds.low, 0)
        assert memory.reclaim <= 0.1 * view.used


def run_memory(need: int, used: int, seconds: float) -> tuple[int, float]:
    """A machine that stalls once it has less than it needs; return what it holds, time stalled."""
    memory = Memory(LATENCY, Bounds(MIB, 8 * GIB), 8 * GIB)
    now, stalled, pressure, back, freed = 0.0, 0.0, 0.0, 0, 0
    while now < seconds:
        now += 2.0
        memory.look(MemoryView(used, pressure, back, freed=freed), now)
        freed = memory.reclaim
        lacking = max(need - (used - memory.reclaim), 0)
        pressure = min(lacking / need * 2, 1.0)
        stalled += pressure * 2.0
        back = lacking
        used = used - memory.reclaim + lacking
    return used, stalled / seconds


def test_cold_memory_is_taken_back_and_what_is_needed_stays():
    held, stalled = run_memory(300 * MIB, 1000 * MIB, 300)
    assert 295 * MIB <= held <= 330 * MIB
    assert stalled < 0.003


def test_machine_that_needs_all_that_it_holds_is_soon_left_alone():
    held, stalled = run_memory(1000 * MIB, 1000 * MIB, 1800)
    assert held >= 990 * MIB
    assert stalled < 0.003


@given(st.lists(st.tuples(st.integers(0, 2 * GIB), CLASS_NAMES), min_size=1, max_size=6))
def test_memory_limits_leave_what_is_in_use_and_fit_the_budget(machines):
    fleet = Fleet(64, 4.0 * GIB)
    for number, (used, kind) in enumerate(machines):
        name = f"m{number}"
        fleet.add(name, manner_of(kind), memory=(Bounds(16 * MIB, 4 * GIB), 2.0 * GIB))
        fleet.look_memory(name, MemoryView(used), 2.0)
    fleet.decide()
    limits = [member.memory_limit for member in fleet.members.values()]
    for (used, _), limit in zip(machines, limits, strict=True):
        assert limit >= used
    in_use = sum(max(used, 16 * MIB) for used, _ in machines)
    assert sum(limits) <= max(4 * GIB, in_use) * (1 + EPSILON)


def test_memory_that_everybody_can_have_is_not_limited_below_its_bound():
    fleet = Fleet(64, 4.0 * GIB)
    fleet.add("a", LATENCY, memory=(Bounds(16 * MIB, 2 * GIB), GIB))
    fleet.add("b", BATCH, memory=(Bounds(16 * MIB, 2 * GIB), GIB))
    fleet.decide()
    assert [m.memory_limit for m in fleet.members.values()] == [2 * GIB, 2 * GIB]


def test_latency_machine_gets_memory_before_batch():
    fleet = Fleet(64, 1.0 * GIB)
    fleet.add("web", LATENCY, memory=(Bounds(16 * MIB, GIB), 600.0 * MIB))
    fleet.add("job", BATCH, memory=(Bounds(16 * MIB, GIB), 400.0 * MIB))
    for name, used in (("web", 590 * MIB), ("job", 100 * MIB)):
        fleet.look_memory(name, MemoryView(used), 2.0)
    fleet.decide()
    assert fleet.members["web"].memory_limit >= 590 * MIB + LEAST_MARGIN
    assert fleet.members["job"].memory_limit >= 100 * MIB


# Neighbours.

PARTIES = st.lists(
    st.builds(
        Party,
        st.sampled_from("abcdef"),
        st.integers(0, 2),
        LEVELS,
        st.floats(0, 4),
        st.sampled_from([0.0, 0.0, 0.3, 0.9]),
        st.booleans(),
    ),
    unique_by=lambda party: party.name,
)


@given(st.lists(PARTIES, max_size=20))
def test_only_machines_that_yield_are_squeezed_and_never_below_what_is_owed(looks):
    neighbours = Neighbours()
    for parties in looks:
        known = {party.name: party for party in parties}
        squeezed = neighbours.look(parties)
        assert set(neighbours.caps) <= set(known)
        if squeezed:
            assert known[squeezed].rank > known[neighbours.victim].rank
            assert known[neighbours.victim].suffers > 0
            assert neighbours.caps[squeezed] >= known[squeezed].owed


def test_noisy_neighbour_is_squeezed_until_the_victim_is_well_and_let_go_when_it_is_gone():
    neighbours, cap = Neighbours(), 2.0
    for _ in range(30):
        used = min(2.0, cap)
        suffers = max(used - 0.8, 0.0)
        neighbours.look([Party("web", 0, 0.5, 0.1, suffers), Party("job", 2, used, 0.1)])
        cap = neighbours.caps.get("job", 2.0)
    assert 0.4 < cap <= 0.9
    neighbours.look([Party("web", 0, 0.0, 0.1, active=False), Party("job", 2, cap, 0.1)])
    assert not neighbours.caps


def test_blame_that_does_not_help_is_dropped():
    neighbours = Neighbours()
    for _ in range(TRIES + 1):
        neighbours.look([Party("web", 0, 0.5, 0.1, 0.5), Party("job", 2, 1.0, 0.1)])
    assert not neighbours.caps
    assert neighbours.look([Party("web", 0, 0.5, 0.1, 0.5), Party("job", 2, 1.0, 0.1)]) == ""


def test_squeezed_batch_machine_keeps_its_lower_bound_in_the_fleet():
    fleet = Fleet(2.0, GIB)
    fleet.add("web", LATENCY, cpus=(Bounds(0.1, 1.0), 0.5))
    fleet.add("job", IDLE, cpus=(Bounds(0.3, 2.0), 1.5))
    for now in range(1, 6):
        fleet.look_cpu("web", 0.4, 0.0, 1.0, float(now))
        fleet.look_cpu("job", min(1.4, fleet.members["job"].cpu_limit), 0.0, 1.0, float(now))
        fleet.look_neighbours({"web": 0.5})
        decisions = fleet.decide()
    assert 0.3 <= fleet.members["job"].cpu_limit < 1.0
    assert decisions[-1].rule == "noisy neighbour"
    assert "web waited" in decisions[-1].signal


def test_machine_that_spends_is_raised_before_it_is_throttled():
    cpu = Cpu(LATENCY, Bounds(0.1, 2.0), 0.1)
    cpu.spending(0.1, 0.6, 1.0)
    assert cpu.want == pytest.approx(0.4)  # no more than four times as much at once
    assert cpu.lean() == pytest.approx(0.4)
    cpu.spending(0.4, 0.6, 1.1)
    assert cpu.want == pytest.approx(0.8)
    assert cpu.throttled_share == 0.0
    cpu.look(0.07, 0.0, 1.0, 2.1)
    assert cpu.lean() < 0.11  # what it saved up no longer counts as needed
    cpu.spending(0.1, 9.0, 3.0)
    assert cpu.want <= 2.0
