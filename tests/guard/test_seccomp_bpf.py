"""The layout of programs, the simulator of the kernel's machine, and the disassembler."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscum.guard import bpf, simulator

X86_64, S390X = 0xC000003E, 0x80000016


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *each) for each in instructions)


def test_graph_merges_equal_nodes() -> None:
    graph = bpf.Graph()
    assert graph.ret(5) == graph.ret(5)
    assert graph.jump(bpf.JEQ, 1, graph.ret(5), graph.ret(5)) == graph.ret(5)


def test_assemble_leaves_out_what_the_root_does_not_reach() -> None:
    graph = bpf.Graph()
    graph.load(bpf.NR, graph.ret(1))
    assert graph.assemble(graph.ret(2), "little") == program((bpf.RETURN, 0, 0, 2))


def test_assemble_writes_the_byte_order_asked_for() -> None:
    graph = bpf.Graph()
    root = graph.load(4, graph.jump(bpf.JEQ, 0x11223344, graph.ret(1), graph.ret(2)))
    assert graph.assemble(root, "big")[8:16] == bytes.fromhex("0015 01 00 11223344")
    assert graph.assemble(root, "little")[8:16] == bytes.fromhex("1500 01 00 44332211")


@pytest.mark.parametrize("size", [10, 254, 255, 256, 257, 300, 1500])
def test_assemble_reaches_however_far_a_target_is(size: int) -> None:
    """A chain whose first and last links share targets that lie at the program's end."""
    graph = bpf.Graph()
    shared = graph.load(24, graph.jump(bpf.JEQ, 7, graph.ret(70), graph.ret(71)))
    node = graph.ret(99)
    for number in range(size):
        target = shared if number % 3 == 0 else graph.ret(number)
        node = graph.jump(bpf.JEQ, number, target, node)
    code = graph.assemble(graph.load(bpf.NR, node), "little")
    simulator.check(simulator.decode(code))
    for number in range(size):
        wanted = 70 if number % 3 == 0 else number
        assert bpf.simulate(code, number, X86_64, (0, 7)) == wanted
    assert bpf.simulate(code, size, X86_64) == 99


@given(st.data())
def test_search_finds_the_range_of_every_word(data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(1, 40) | st.integers(1, 2**32 - 1), max_size=40))
    starts = [0, *sorted(cuts)]
    graph = bpf.Graph()
    pool = [graph.ret(value) for value in range(data.draw(st.integers(2, 5)))]
    targets: list[int] = []
    for _ in starts:
        choices = [each for each in pool if not targets or each != targets[-1]]
        targets.append(data.draw(st.sampled_from(choices)))
    weights = data.draw(st.lists(st.integers(1, 99), min_size=len(starts), max_size=len(starts)))
    code = graph.assemble(graph.load(0, graph.search(starts, targets, weights)), "little")
    for word in {min(max(start + near, 0), 2**32 - 1) for start in starts for near in (-1, 0, 1)}:
        place = max(place for place, start in enumerate(starts) if start <= word)
        assert bpf.simulate(code, word, X86_64) == pool.index(targets[place])


def test_search_takes_one_comparison_for_a_single_exception() -> None:
    graph = bpf.Graph()
    yes, no = graph.ret(1), graph.ret(2)
    code = graph.assemble(
        graph.load(0, graph.search([0, 9, 10], [yes, no, yes], [1] * 3)), "little"
    )
    assert len(code) == 4 * bpf.INSTRUCTION_SIZE


def test_search_stays_shallow() -> None:
    graph = bpf.Graph()
    leaves = [graph.ret(value) for value in range(3)]
    starts = [4 * place for place in range(512)]
    root = graph.search(starts, [leaves[place % 3] for place in range(512)], [1] * 512)
    code = simulator.decode(graph.assemble(graph.load(0, root), "little"))
    assert max(steps(code, word) for word in range(2048)) <= 12


def steps(instructions: list[tuple[int, int, int, int]], word: int) -> int:
    place = count = 0
    while True:
        code, then, otherwise, operand = instructions[place]
        count += 1
        if code == bpf.RETURN:
            return count
        taken = {bpf.JEQ: word == operand, bpf.JGE: word >= operand}.get(code, False)
        place += 1 + (operand if code == bpf.GOTO else then if taken else otherwise)


@pytest.mark.parametrize(
    ("instructions", "wanted"),
    [
        ([(0x80, 0, 0, 0), (0x16, 0, 0, 0)], 64),
        ([(0x00, 0, 0, 9), (0x02, 0, 0, 3), (0x61, 0, 0, 3), (0x87, 0, 0, 0), (0x16, 0, 0, 0)], 9),
        ([(0x00, 0, 0, 9), (0x07, 0, 0, 0), (0x0C, 0, 0, 0), (0x16, 0, 0, 0)], 18),
        ([(0x00, 0, 0, 9), (0x14, 0, 0, 10), (0x16, 0, 0, 0)], 2**32 - 1),
        ([(0x00, 0, 0, 9), (0x84, 0, 0, 0), (0x16, 0, 0, 0)], 2**32 - 9),
        ([(0x00, 0, 0, 9), (0x3C, 0, 0, 0), (0x06, 0, 0, 7)], 0),
        ([(0x00, 0, 0, 9), (0x34, 0, 0, 2), (0x64, 0, 0, 3), (0x16, 0, 0, 0)], 32),
        ([(0x00, 0, 0, 9), (0xA4, 0, 0, 1), (0x74, 0, 0, 3), (0x44, 0, 0, 6), (0x16, 0, 0, 0)], 7),
        ([(0x01, 0, 0, 9), (0x1D, 0, 1, 0), (0x06, 0, 0, 1), (0x06, 0, 0, 2)], 2),
        ([(0x81, 0, 0, 0), (0x03, 0, 0, 0), (0x60, 0, 0, 0), (0x16, 0, 0, 0)], 64),
        ([(0x00, 0, 0, 3), (0x24, 0, 0, 2**31 + 1), (0x16, 0, 0, 0)], 2**31 + 3),
        ([(0x05, 0, 0, 1), (0x06, 0, 0, 1), (0x06, 0, 0, 2)], 2),
    ],
)
def test_simulate_runs_what_seccomp_takes(
    instructions: list[tuple[int, int, int, int]], wanted: int
) -> None:
    assert bpf.simulate(program(*instructions), 0, X86_64) == wanted


@pytest.mark.parametrize(("arch", "sign"), [(X86_64, "<"), (S390X, ">")])
def test_simulate_reads_the_record_as_the_architecture_lays_it_out(arch: int, sign: str) -> None:
    data = struct.pack(f"{sign}IIQ6Q", 5, arch, 0x1122334455667788, *range(6))
    for place, (word,) in enumerate(struct.iter_unpack(f"{sign}I", data)):
        instructions = [(bpf.LOAD, 0, 0, 4 * place), (0x16, 0, 0, 0)]
        code = b"".join(struct.pack(f"{sign}HBBI", *each) for each in instructions)
        assert bpf.simulate(code, 5, arch, tuple(range(6)), 0x1122334455667788) == word


@pytest.mark.parametrize(
    "instructions",
    [
        [],
        [(bpf.LOAD, 0, 0, 0)],
        [(bpf.LOAD, 0, 0, 2), (bpf.RETURN, 0, 0, 0)],
        [(bpf.LOAD, 0, 0, 64), (bpf.RETURN, 0, 0, 0)],
        [(bpf.JEQ, 0, 1, 0), (bpf.RETURN, 0, 0, 0)],
        [(bpf.GOTO, 0, 0, 1), (bpf.RETURN, 0, 0, 0)],
        [(0x60, 0, 0, 16), (bpf.RETURN, 0, 0, 0)],
        [(0x34, 0, 0, 0), (bpf.RETURN, 0, 0, 0)],
        [(0x64, 0, 0, 32), (bpf.RETURN, 0, 0, 0)],
        [(0x28, 0, 0, 0), (bpf.RETURN, 0, 0, 0)],
        [(0x94, 0, 0, 1), (bpf.RETURN, 0, 0, 0)],
        [(bpf.RETURN, 0, 0, 0)] * 4097,
    ],
)
def test_simulate_refuses_what_the_kernel_refuses(
    instructions: list[tuple[int, int, int, int]],
) -> None:
    with pytest.raises(ValueError, match="instruction"):
        bpf.simulate(program(*instructions), 0, X86_64)


@given(st.binary(max_size=200))
def test_simulate_and_disassemble_never_crash(code: bytes) -> None:
    for function in (
        lambda: bpf.simulate(code, 1, X86_64),
        lambda: bpf.disassemble(code),
        lambda: bpf.disassemble(code, "big"),
    ):
        try:
            function()
        except ValueError as error:
            assert str(error)


def test_disassemble_names_words_targets_and_actions() -> None:
    graph = bpf.Graph()
    allow, deny = graph.ret(0x7FFF0000), graph.ret(0x00050001)
    check = graph.load(24, graph.mask(0xF0, graph.jump(bpf.JEQ, 0x10, allow, deny)))
    check = graph.load(28, graph.jump(bpf.JSET, 1, deny, check))
    root = graph.load(bpf.NR, graph.jump(bpf.JEQ, 59, check, graph.ret(0x80000000)))
    assert bpf.disassemble(graph.assemble(root, "little")) == [
        "   0: ld nr",
        "   1: jeq 0x3b ? 3 : 2",
        "   2: ret kill_process",
        "   3: ld arg1.high",
        "   4: jset 0x1 ? 8 : 5",
        "   5: ld arg1.low",
        "   6: and 0xf0",
        "   7: jeq 0x10 ? 9 : 8",
        "   8: ret errno 1",
        "   9: ret allow",
    ]
