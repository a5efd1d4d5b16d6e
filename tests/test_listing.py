"""Tables that fit the terminal, relative times, sizes, colours."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from viscum.cli.listing import Column, ago, duration, fit, lay_out, printable, size, width_of

COLUMNS = (
    Column("Name", "NAME"),
    Column("Path", "PATH", yields=2, front=True),
    Column("Text", "TEXT", yields=1, least=6),
)


def test_table_as_wide_as_it_needs_without_a_terminal() -> None:
    rows = [["a", "/" + "p" * 200, "t" * 100]]
    lines = lay_out(rows, COLUMNS)
    assert lines[0].split() == ["NAME", "PATH", "TEXT"]
    assert lines[1].split() == rows[0]


def test_table_shortens_the_columns_that_yield_first() -> None:
    rows = [["name-in-full", "/var/lib/viscum/volumes/data", "short text"]]
    (_, line) = lay_out(rows, COLUMNS, width=40)
    assert line == "name-in-full   …olumes/data   short text"
    (_, line) = lay_out(rows, COLUMNS, width=33)
    assert line.startswith("name-in-full   …") and line.endswith("…") and len(line) == 33


@hypothesis.given(
    st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), max_size=5),
    st.integers(20, 120),
    st.booleans(),
)
def test_table_never_wraps(rows: list[list[str]], width: int, coloured: bool) -> None:
    for line in lay_out(rows, COLUMNS, width=width, coloured=coloured):
        plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "")
        assert width_of(plain) <= width
        assert plain.isprintable()


@hypothesis.given(st.text(), st.integers(0, 30), st.booleans())
def test_text_fits(text: str, width: int, front: bool) -> None:
    assert width_of(fit(text, width, front=front)) <= width
    assert fit(text, width_of(text)) == text


def test_wide_characters_take_two_cells() -> None:
    assert width_of("槲寄生") == 6
    assert fit("槲寄生", 5) == "槲寄…"
    lines = lay_out([["槲寄生", "b", "c"], ["abcdef", "b", "c"]], COLUMNS, headings=False)
    assert width_of(lines[0]) == width_of(lines[1])


def test_escapes_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2J\n\x9b") == "a\\x1b[2J\\n\\x9b"
    assert printable("槲寄生 é") == "槲寄生 é"


def test_colours_stand_beside_the_text_only() -> None:
    columns = (Column("S", "STATUS", colours={"Up": "green"}), Column("N", "NAME"))
    lines = lay_out([["Up 3 minutes", "a"]], columns, coloured=True)
    assert lines[0] == "\x1b[1mSTATUS         NAME\x1b[0m"
    assert lines[1] == "\x1b[32mUp 3 minutes\x1b[0m   a"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (180, "3 minutes"),
        (3600, "1 hour"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (21 * 86400, "3 weeks"),
        (80 * 86400, "2 months"),
        (800 * 86400, "2 years"),
        (-5, "less than a second"),
    ],
)
def test_durations_are_said_in_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_relative_both_ways() -> None:
    assert ago(100, 280) == "3 minutes ago"
    assert ago(280, 100) == "in 3 minutes"


@hypothesis.given(st.floats(0, 1e300))
def test_durations_of_any_length_are_one_number_and_a_unit(seconds: float) -> None:
    assert len(duration(seconds).split()) in (2, 4)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536, "1.5KiB"), (10 << 30, "10GiB")],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


@hypothesis.given(st.integers(0, 1 << 70), st.booleans())
def test_sizes_are_short(count: int, decimal: bool) -> None:
    assert len(size(count, decimal=decimal)) <= 8


def test_sizes_in_powers_of_1000() -> None:
    assert size(1_530_000, decimal=True) == "1.53MB"
