"""Plans: the vocabulary, the two forms, the decoder of the core, and what is compiled for whom."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import callers
from needs import needs
from viscum import _core, host, launching, native
from viscum.drivers.process import compile_exec, compile_plan
from viscum.errors import HostError, PlanError, SpecError
from viscum.host import Cgroups, Host, KernelPath
from viscum.plan import NONE, SECTIONS, SLOTS, VERBS, Operation, Plan, nul_ended, op
from viscum.request import make_spec
from viscum.spec import Device, Mount, Rlimit, Spec

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEW_NETWORK = 0x40000000
FILTER = bytes(range(64))
INIT = "/usr/lib/viscum-init"

V1 = tuple((name, f"/sys/fs/cgroup/{name}") for name in "cpu cpuset memory pids freezer".split())
LAYOUTS = {
    "none": Cgroups(),
    "v1": Cgroups(V1),
    "v2": Cgroups((), "/sys/fs/cgroup", ("cpuset", "cpu", "io", "memory", "pids")),
    "hybrid": Cgroups(V1, "/sys/fs/cgroup/unified"),
}
ROOTFUL = Host(
    machine="x86_64",
    release="6.18.1-test",
    uid=0,
    gid=0,
    cgroups=LAYOUTS["v2"],
    kernel_paths=(
        KernelPath("/proc/acpi", True, True, False),
        KernelPath("/proc/kcore", False, False, False),
        KernelPath("/proc/keys", False, True, False),
        KernelPath("/proc/sys", True, True, False),
    ),
    last_capability=40,
    capable=True,
    landlock_scopes=True,
    subordinate=None,
    user_namespaces=True,
    full_identity=True,
    ids=1 << 32,
    home="/root",
    pasta="/usr/bin/pasta",
    shapes_links=True,
)
SUBIDS = ROOTFUL.replace(
    uid=1000,
    gid=1000,
    capable=False,
    cgroups=Cgroups(),
    subordinate=((100000, 65536), (200000, 65536)),
    home="/home/user",
)
ONE_ID = SUBIDS.replace(subordinate=None)
HOSTS = {"rootful": ROOTFUL, "subids": SUBIDS, "one-id": ONE_ID} | {
    layout: ROOTFUL.replace(cgroups=cgroups) for layout, cgroups in LAYOUTS.items()
}


def spec(*command: str, **options: object) -> Spec:
    return make_spec(list(command) or ["true"], options)


def compiled(of: Host, wanted: Spec | None = None) -> Plan:
    return compile_plan(wanted or spec(), of, init=INIT, seccomp=FILTER).plan


def named(plan: Plan, name: str) -> list[Operation]:
    return [operation for operation in plan.operations if operation.name == name]


RICH = spec(
    "sh",
    "-c",
    "true",
    memory="64M",
    memory_swap="128M",
    cpus=1.5,
    cpu_shares=512,
    pids=32,
    hostname="rich",
    env={"A": "1"},
    workdir="/usr",
    mounts=[Mount("/usr", "/mnt/usr", read_only=True), Mount("", "/scratch", kind="tmpfs")],
    devices=[Device("/dev/null", "/dev/void")],
    rlimits=[Rlimit("nofile", 64, 128)],
    sysctls={"net.ipv4.ip_forward": "0"},
    hosts={"db": "10.0.0.1"},
    dns=["9.9.9.9"],
    read_only=True,
    init=True,
)


# The vocabulary.


def test_header_is_in_step_with_the_vocabulary() -> None:
    if not (ROOT / "native" / "vocabulary.h").exists():
        pytest.fail("the tests belong to a checkout")
    path = ROOT / "tools" / "gen_vocabulary.py"
    module_spec = importlib.util.spec_from_file_location("gen_vocabulary", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    assert module.header() == (ROOT / "native" / "vocabulary.h").read_text()


def test_verbs_have_codes_of_their_own() -> None:
    assert sorted(verb.code for verb in VERBS.values()) == list(range(1, len(VERBS) + 1))


def test_verbs_stand_in_the_order_of_their_sections() -> None:
    sections = [verb.section for verb in VERBS.values()]
    assert sections == sorted(sections)


def test_operation_refuses_a_wrong_number_of_values() -> None:
    with pytest.raises(PlanError):
        op("attach", 1, 2)


def test_operations_compare_by_value() -> None:
    assert op("umask", 0o22) == op("umask", 0o22)
    assert len({op("umask", 0o22), op("umask", 0o22), op("umask", 0o27)}) == 2


def test_plan_refuses_operations_out_of_order() -> None:
    with pytest.raises(PlanError):
        Plan([op("umask", 0o22), op("clone", 0, NONE)])


# The two forms.

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
VALUES = {
    "I": st.integers(0, 2**64 - 1),
    "Ix": st.integers(0, 2**64 - 1),
    "Io": st.integers(0, 2**64 - 1),
    "S": text | st.just("{id}"),
    "B": st.binary(max_size=60),
    "N": st.lists(text, max_size=4).map(nul_ended),
    "F": st.integers(0, SLOTS - 1),
    "O": st.integers(0, SLOTS - 1) | st.just(NONE),
    "L": st.lists(st.integers(0, min(SLOTS, 256) - 1), max_size=5).map(tuple),
}


def operations_of(verbs: list[str]) -> st.SearchStrategy[Operation]:
    def values(name: str) -> st.SearchStrategy[Operation]:
        return st.tuples(*(VALUES[kind] for kind in VERBS[name].kinds)).map(lambda v: op(name, *v))

    return st.sampled_from(verbs).flatmap(values)


def in_order(operations: list[Operation]) -> Plan:
    return Plan(sorted(operations, key=lambda operation: operation.verb.section))


plans = st.lists(operations_of(list(VERBS)), max_size=12).map(in_order)


@given(plans)
def test_decode_gives_back_what_was_encoded(plan: Plan) -> None:
    assert Plan.decode(plan.encode()) == plan


@given(plans)
def test_describe_shows_every_operation_and_argument(plan: Plan) -> None:
    lines = [line for line in plan.describe().splitlines() if line.startswith("  ")]
    assert len(lines) >= len(plan.operations)
    for operation in plan.operations:
        described = operation.describe()
        assert described in plan.describe()
        assert all(f" {name}=" in described for name in operation.verb.names)


@given(plans)
def test_describe_keeps_an_operation_on_one_line(plan: Plan) -> None:
    assert all(len(operation.describe().splitlines()) == 1 for operation in plan.operations)


@given(plans, st.integers(0, 200))
def test_python_refuses_a_plan_that_was_cut_short(plan: Plan, length: int) -> None:
    data = plan.encode()
    with pytest.raises(PlanError):
        Plan.decode(data[: min(length, len(data) - 1)])


@given(plans, st.data())
def test_python_refuses_or_reads_a_plan_that_was_changed(plan: Plan, data: st.DataObject) -> None:
    changed = mutate(data, plan.encode())
    try:
        Plan.decode(changed)
    except PlanError:
        return


def test_encode_refuses_a_string_with_a_nul() -> None:
    with pytest.raises(PlanError):
        Plan([op("hostname", "a\0b")]).encode()


def test_encode_refuses_too_many_operations() -> None:
    with pytest.raises(PlanError):
        Plan([op("umask", 0)] * 5000).encode()


def test_encode_stores_equal_strings_once() -> None:
    one = len(Plan([op("hostname", "x" * 100)]).encode())
    two = len(Plan([op("hostname", "x" * 100)] * 2).encode())
    assert two - one < 100


# The decoder of the core. Only plans without a `load` section: loading runs that section.

HARMLESS = [name for name, verb in VERBS.items() if SECTIONS[verb.section] != "load"]
ONE_CLONE = op("clone", 0, NONE)
LOADS_AT = 4
HEADER, RECORD = 32, 64


def mutate(data: st.DataObject, plan: bytes) -> bytes:
    """Return `plan` with some of its bytes changed, left out or added."""
    changed = bytearray(plan)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(changed) - 1)))
        kind = data.draw(st.sampled_from(["flip", "byte", "cut", "add", "word"]))
        if kind == "flip" and changed:
            changed[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte" and changed:
            changed[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[place:]
        elif kind == "word":
            word = data.draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
            changed[place : place + 4] = word.to_bytes(4, "little")
        else:
            changed[place:place] = data.draw(st.binary(max_size=16))
    return bytes(changed)


def has_load(data: bytes) -> bool:
    """Whether the core would run something when it loads these bytes."""
    codes = {verb.code for verb in VERBS.values() if verb.section == 0}
    records = range(HEADER, len(data) - RECORD + 1, RECORD)
    return any(int.from_bytes(data[at : at + LOADS_AT], "little") in codes for at in records)


harmless = st.lists(operations_of([name for name in HARMLESS if name != "clone"]), max_size=8).map(
    lambda operations: in_order([*operations, ONE_CLONE])
)


@given(harmless)
def test_core_loads_what_python_encodes(plan: Plan) -> None:
    _core.Plan(plan.encode())


@given(harmless, st.data())
def test_core_refuses_every_plan_that_was_cut_short(plan: Plan, data: st.DataObject) -> None:
    encoded = plan.encode()
    with pytest.raises(_core.Failure):
        _core.Plan(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@settings(max_examples=400)
@given(harmless, st.data())
def test_core_refuses_or_loads_every_plan_that_was_changed(plan: Plan, data: st.DataObject) -> None:
    changed = mutate(data, plan.encode())
    if has_load(changed):
        return
    try:
        _core.Plan(changed)
    except _core.Failure:
        return


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_core_refuses_noise(noise: bytes) -> None:
    with pytest.raises(_core.Failure):
        _core.Plan(noise)


def raw(operation: Operation, at: int, value: int) -> bytes:
    """Return a plan of one clone and `operation` with its argument `at` replaced."""
    plan = in_order([operation] if operation == ONE_CLONE else [ONE_CLONE, operation])
    data = bytearray(plan.encode())
    index = plan.operations.index(operation)
    place = HEADER + index * RECORD + 8 + at * 8
    data[place : place + 8] = value.to_bytes(8, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("operation", "at", "value"),
    [
        pytest.param(op("pivot", 1), 0, SLOTS, id="slot beyond the last"),
        pytest.param(op("pivot", 1), 0, NONE, id="no slot where one is needed"),
        pytest.param(op("clone", 0, NONE), 1, NONE - 1, id="slot before none"),
        pytest.param(op("pivot", 1), 0, 1 << 32, id="slot of 64 bits"),
        pytest.param(op("hostname", "x"), 0, 1 << 20, id="string beyond the table"),
        pytest.param(op("hostname", "x"), 0, 0x80000000 | 99, id="unknown parameter"),
        pytest.param(op("hostname", "x"), 0, 0x1_8000_0000, id="parameter of 64 bits"),
        pytest.param(op("seccomp", b"x", 0), 0, 1 << 63, id="blob beyond the table"),
        pytest.param(op("seccomp", b"x", 0), 0, 0xFFFFFFFF, id="blob longer than the table"),
        pytest.param(op("seccomp", b"x", 0), 0, 2**64 - 1, id="blob that overflows"),
        pytest.param(op("umask", 0), 1, 1, id="argument that is not there"),
    ],
)
def test_core_refuses_an_argument_out_of_bounds(operation: Operation, at: int, value: int) -> None:
    with pytest.raises(_core.Failure):
        _core.Plan(raw(operation, at, value))


@pytest.mark.parametrize("clones", [0, 2])
def test_core_refuses_a_plan_without_exactly_one_clone(clones: int) -> None:
    with pytest.raises(_core.Failure):
        _core.Plan(Plan([ONE_CLONE] * clones).encode())


def test_core_refuses_operations_out_of_order() -> None:
    data = bytearray(in_order([ONE_CLONE, op("umask", 0)]).encode())
    first, second = data[HEADER : HEADER + RECORD], data[HEADER + RECORD : HEADER + 2 * RECORD]
    data[HEADER : HEADER + 2 * RECORD] = second + first
    with pytest.raises(_core.Failure):
        _core.Plan(bytes(data))


@pytest.mark.parametrize("at", [0, 8, 12, 16, 20, 24, 28])
def test_core_refuses_a_changed_header(at: int) -> None:
    data = bytearray(Plan([ONE_CLONE]).encode())
    data[at] ^= 0x5A
    with pytest.raises(_core.Failure):
        _core.Plan(bytes(data))


def test_launch_refuses_a_plan_without_a_command() -> None:
    plan = Plan([op("clone", 0, NONE), op("umask", 0o22)])
    with pytest.raises(native.LaunchError):
        native.launch(plan, native.load(plan), "viscum-0-0-0-0", (0, 1, 2))


# Compiling.


@pytest.mark.parametrize("name", HOSTS)
def test_compiling_twice_gives_equal_plans(name: str) -> None:
    wanted = RICH if name not in ("subids", "one-id") else spec(hostname="poor")
    assert compiled(HOSTS[name], wanted) == compiled(HOSTS[name], wanted)
    assert compiled(HOSTS[name], wanted).encode() == compiled(HOSTS[name], wanted).encode()


@pytest.mark.parametrize("name", HOSTS)
def test_compiling_changes_nothing_of_the_process(name: str) -> None:
    def state() -> tuple[object, ...]:
        return sorted(os.listdir("/proc/self/fd")), os.getcwd(), dict(os.environ)

    before = state()
    compiled(HOSTS[name])
    assert state() == before


@pytest.mark.parametrize("name", HOSTS)
def test_plan_describes_every_operation(name: str) -> None:
    plan = compiled(HOSTS[name])
    described = plan.describe()
    for index, operation in enumerate(plan.operations):
        assert f"{index:3d}  {operation.describe()}" in described
    assert [line[:-1] for line in described.splitlines() if line.endswith(":")] == list(
        dict.fromkeys(operation.section for operation in plan.operations)
    )


@pytest.mark.parametrize("name", HOSTS)
def test_plan_survives_its_encoding(name: str) -> None:
    plan = compiled(HOSTS[name])
    assert Plan.decode(plan.encode()) == plan


@pytest.mark.parametrize("name", HOSTS)
def test_guard_comes_last_before_the_command(name: str) -> None:
    """Nothing is left to do once the filter is loaded; it would have to allow it."""
    names = [operation.name for operation in compiled(HOSTS[name]).operations]
    place = names.index("seccomp")
    assert names[place + 1].startswith("exec")
    for before in ("no-new-privileges", "capabilities", "user", "close", "pivot"):
        assert names.index(before) < place


@pytest.mark.parametrize("name", HOSTS)
def test_every_cgroup_has_its_release(name: str) -> None:
    plan = compiled(HOSTS[name], RICH if "id" not in name else None)
    made = [operation["slot"] for operation in named(plan, "cgroup")]
    removed = [operation["slot"] for operation in named(plan, "cgroup-remove")]
    assert sorted(made) == sorted(removed)


def test_v2_limits_are_written_to_one_group() -> None:
    plan = compiled(HOSTS["v2"], RICH)
    written = {operation["file"]: operation["data"] for operation in named(plan, "cgroup-write")}
    assert written["memory.max"] == str(64 << 20)
    assert written["memory.swap.max"] == str(64 << 20)
    assert written["cpu.max"] == "150000 100000"
    assert written["pids.max"] == "32"
    assert len(named(plan, "cgroup")) == 1
    assert named(plan, "clone")[0]["cgroup"] == named(plan, "cgroup")[0]["slot"]
    assert named(plan, "cgroup-join") == []


def test_v1_limits_are_written_to_a_group_for_each_controller() -> None:
    plan = compiled(HOSTS["v1"], RICH)
    written = {operation["file"]: operation["data"] for operation in named(plan, "cgroup-write")}
    assert written["memory.limit_in_bytes"] == str(64 << 20)
    assert written["memory.memsw.limit_in_bytes"] == str(128 << 20)
    assert written["cpu.cfs_quota_us"] == "150000"
    assert written["cpu.shares"] == "512"
    assert written["pids.max"] == "32"
    assert named(plan, "clone")[0]["cgroup"] == NONE


def test_v1_groups_are_entered_through_tasks() -> None:
    """`cgroup.procs` costs ten milliseconds where `tasks` costs thirty microseconds."""
    plan = compiled(HOSTS["v1"], RICH)
    opened = named(plan, "cgroup-open")
    assert {operation["file"] for operation in opened} == {"tasks"}
    assert sorted(operation["slot"] for operation in opened) == sorted(
        operation["slot"] for operation in named(plan, "cgroup-join")
    )


def test_hybrid_has_limits_in_v1_and_starts_in_v2() -> None:
    plan = compiled(HOSTS["hybrid"], RICH)
    written = {operation["file"] for operation in named(plan, "cgroup-write")}
    assert "memory.limit_in_bytes" in written
    assert "memory.max" not in written
    assert named(plan, "clone")[0]["cgroup"] != NONE


def test_lost_limits_are_named() -> None:
    done = compile_plan(spec(memory="64M", pids=4), HOSTS["none"], seccomp=FILTER)
    assert len(done.lost) == 2
    assert "memory.max" in " ".join(done.lost)


def test_strict_refuses_lost_limits() -> None:
    with pytest.raises(HostError):
        compile_plan(spec(memory="64M", strict=True), HOSTS["none"], seccomp=FILTER)


def test_no_limit_is_lost_where_there_is_a_controller() -> None:
    for layout in ("v1", "v2", "hybrid"):
        wanted = spec(memory="64M", cpus=1, pids=4, cpu_shares=99)
        assert compile_plan(wanted, HOSTS[layout], seccomp=FILTER).lost == ()


def test_rootful_ids_are_of_an_unprivileged_range() -> None:
    maps = named(compiled(ROOTFUL), "map")
    assert len(maps) == 2
    for operation in maps:
        inside, outside, count = (int(word) for word in str(operation["data"]).split())
        assert inside == 0
        assert outside >= 65536
        assert count == 65536


def test_subordinate_ids_are_mapped_by_the_helpers() -> None:
    plan = compiled(SUBIDS)
    helpers = named(plan, "helper")
    assert [str(operation["path"]).rpartition("/")[2] for operation in helpers] == [
        "newuidmap",
        "newgidmap",
    ]
    assert b"100000" in helpers[0]["arguments"]
    assert b"200000" in helpers[1]["arguments"]
    assert named(plan, "map") == []


def test_one_id_forbids_setgroups_before_it_maps() -> None:
    names = [operation.name for operation in compiled(ONE_ID).operations]
    assert names.index("setgroups-deny") < names.index("map")
    assert {operation["data"] for operation in named(compiled(ONE_ID), "map")} == {"0 1000 1"}


def test_one_id_refuses_another_user() -> None:
    with pytest.raises(HostError):
        compiled(ONE_ID, spec(user="1000"))


def test_rootless_waits_for_its_ids_before_anything_else() -> None:
    for of in (SUBIDS, ONE_ID):
        entered = [o.name for o in compiled(of).operations if o.section == "enter"]
        assert entered.index("await") < entered.index("become") < entered.index("pivot")


def test_host_without_user_namespaces_is_refused() -> None:
    for of in (ROOTFUL, SUBIDS, ONE_ID):
        with pytest.raises(HostError) as caught:
            compiled(of.replace(user_namespaces=False))
        assert caught.value.hint


def test_user_namespace_of_the_host_needs_privileges() -> None:
    with pytest.raises(HostError):
        compiled(ONE_ID, spec(userns="host"))
    assert named(compiled(ROOTFUL, spec(userns="host")), "become") == []


def test_plan_is_for_one_kernel() -> None:
    first = compiled(ROOTFUL).operations[0]
    assert (first.name, first["machine"], first["release"]) == (
        "expect-host",
        ROOTFUL.machine,
        ROOTFUL.release,
    )


@pytest.mark.parametrize("release", ["6.14.0", "6.1.0-18-amd64", "5.15.0-100-generic"])
def test_old_kernel_gets_its_device_nodes_one_by_one(release: str) -> None:
    plan = compiled(ROOTFUL.replace(release=release))
    assert named(plan, "devices") == []
    paths = {operation["path"] for operation in named(plan, "clone-tree")}
    assert {"/dev/null", "/dev/zero", "/dev/urandom"} <= paths
    assert len(named(compiled(ROOTFUL), "devices")) == 1


def test_old_landlock_is_not_asked_for_scopes() -> None:
    wanted = spec(network="host")
    assert named(compiled(ROOTFUL, wanted), "landlock")
    assert not named(compiled(ROOTFUL.replace(landlock_scopes=False), wanted), "landlock")


def test_landlock_that_is_missing_is_told() -> None:
    """With the host's network its abstract sockets stay open: a loss, and not a silent one."""
    of = ROOTFUL.replace(landlock_scopes=False)
    assert compile_plan(spec(network="host"), of, seccomp=FILTER).lost


def unshared(plan: Plan) -> int:
    """Return the flags of the namespaces that a machine does not share with its host."""
    flags = named(plan, "clone")[0]["flags"]
    for operation in named(plan, "unshare"):
        flags |= operation["flags"]
    return flags | (NEW_NETWORK if named(plan, "network-make") else 0)


def test_network_none_has_a_namespace_with_loopback() -> None:
    plan = compiled(ROOTFUL)
    assert unshared(plan) & NEW_NETWORK
    assert named(plan, "loopback") or named(plan, "network-make")


def test_network_host_keeps_the_hosts_namespace() -> None:
    plan = compiled(ROOTFUL, spec(network="host"))
    assert not unshared(plan) & NEW_NETWORK
    assert named(plan, "loopback") == []


def test_network_private_needs_pasta() -> None:
    with pytest.raises(HostError) as caught:
        compiled(ROOTFUL.replace(pasta=""), spec(network="private"))
    assert "pasta" in str(caught.value)


@pytest.mark.parametrize("name", ["rootful", "subids", "one-id"])
def test_every_namespace_is_private_by_default(name: str) -> None:
    """mnt, uts, ipc, user, pid and net at the clone."""
    assert unshared(compiled(HOSTS[name])) & 0x6C020000 == 0x6C020000


def test_unmask_leaves_the_masks_out() -> None:
    targets = {operation["target"] for operation in named(compiled(ROOTFUL), "attach")}
    assert "/proc/keys" in targets
    open_plan = compiled(ROOTFUL, spec(unmask=True))
    assert "/proc/keys" not in {operation["target"] for operation in named(open_plan, "attach")}


def test_mounts_are_attached_parents_first() -> None:
    mounts = [Mount("", "/a/b/c", kind="tmpfs"), Mount("", "/a", kind="tmpfs")]
    plan = compiled(ROOTFUL, spec(mounts=mounts))
    targets = [o["target"] for o in named(plan, "attach") if str(o["target"]).startswith("/a")]
    assert targets == ["/a", "/a/b/c"]


def test_sysctl_of_the_whole_host_is_refused() -> None:
    for name in ("kernel.core_pattern", "vm.swappiness", "net/../kernel.x"):
        with pytest.raises(SpecError):
            compiled(ROOTFUL, spec(sysctls={name: "1"}))


def test_sysctl_of_a_shared_namespace_is_refused() -> None:
    with pytest.raises(SpecError):
        compiled(ROOTFUL, spec(network="host", sysctls={"net.ipv4.ip_forward": "1"}))


def test_unknown_ulimit_is_refused() -> None:
    with pytest.raises(SpecError):
        compiled(ROOTFUL, spec(rlimits=[Rlimit("cows", 1, 1)]))


def test_capability_that_this_kernel_lacks_is_left_out() -> None:
    plan = compiled(ROOTFUL.replace(last_capability=10), spec(cap_add=["ALL"]))
    assert named(plan, "capabilities")[0]["bounding"] < 1 << 11


def test_command_in_a_machine_has_the_guard_of_the_machine() -> None:
    """What a launch confines, a command that enters later is confined by as well."""
    wanted = spec()
    first = compile_plan(wanted, ROOTFUL, seccomp=FILTER).plan
    later = compile_exec(wanted, ROOTFUL, (), "", seccomp=FILTER).plan
    for name in ("capabilities", "no-new-privileges", "seccomp", "user", "groups", "close"):
        assert named(later, name) == named(first, name)


def test_command_in_a_machine_joins_every_namespace() -> None:
    flags = named(compile_exec(spec(), ROOTFUL, (), "", seccomp=FILTER).plan, "join")[0]["flags"]
    assert flags & 0x6C020000 == 0x6C020000


def test_slots_of_a_rich_plan_are_within_bounds() -> None:
    """Many mounts must end in a clear error, not in a plan that the core refuses."""
    mounts = [Mount("/usr", f"/mnt/{number}") for number in range(600)]
    try:
        plan = compiled(HOSTS["hybrid"], spec(mounts=mounts, memory="64M", pids=9))
    except (PlanError, SpecError) as error:
        assert str(error)
        return
    slots = [
        value
        for operation in plan.operations
        for kind, value in zip(operation.verb.kinds, operation.values, strict=True)
        if kind in "FO" and value != NONE
    ]
    assert max(slots) < SLOTS


def test_this_host_is_probed_the_same_twice() -> None:
    assert host.probe() == host.probe()


@needs("root", "namespace-tools")
def test_host_with_many_mounts_is_read_whole() -> None:
    """The table of mounts is longer than a page on most hosts."""
    script = (
        "mount -t tmpfs none /mnt; for n in $(seq 150); do"
        " mkdir /mnt/some-folder-with-a-name-$n; mount -t tmpfs none /mnt/some-folder-with-a-name-$n;"
        " done; mount --move /sys/fs/cgroup /mnt/some-folder-with-a-name-1; "
        " mount --move /mnt/some-folder-with-a-name-1 /sys/fs/cgroup;"
    )
    source = (
        "from viscum import host\n"
        "print(len(host.mount_points()), host.submounts(['/mnt', '/usr']), host.probe().cgroups)\n"
    )
    words = callers.in_mounts(script, callers.make_caller("root").python_command(source))
    done = subprocess.run(words, capture_output=True, timeout=60, check=True)
    count, submounts, cgroups = done.stdout.decode().split(maxsplit=2)
    assert int(count) > 150
    assert submounts == "{'/mnt'}"
    assert cgroups.strip() == str(host.probe().cgroups)


def test_ids_of_machines_name_their_owner() -> None:
    first, second = launching.new_id(), launching.new_id()
    assert first != second
    assert first.rpartition("-")[0] == second.rpartition("-")[0] == f"viscum-{host.owner_prefix()}"
