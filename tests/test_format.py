"""`--format`: templates as people type them, errors that say where, and never a crash."""

from __future__ import annotations

import json
import re

import hypothesis
import hypothesis.strategies as st
import pytest

from viscum.cli.filters import Filters, labels_match, parse_labels
from viscum.cli.format import print_records, print_rows, printer
from viscum.cli.listing import Column
from viscum.cli.template import Template
from viscum.errors import SpecError

ROW = {
    "ID": "4e2f",
    "Names": "web",
    "Labels": {"a": "1", "b.c": "two"},
    "Ports": ["80/tcp", "443/tcp"],
    "Size": 1536,
    "Running": True,
    "State": {"Status": "running", "ExitCode": 0},
    "Nothing": None,
}
COLUMNS = (Column("ID", "MACHINE ID"), Column("Names", "NAMES"))

RENDERED = {
    "{{.ID}}": "4e2f",
    "{{ .ID }} {{.Names}}": "4e2f web",
    r"{{.ID}}\t{{.Names}}\n": "4e2f\tweb\n",
    "{{json .Labels}}": '{"a": "1", "b.c": "two"}',
    "{{json .Names}}": '"web"',
    "{{.Labels.a}}": "1",
    "{{.Labels.absent}}": "",
    '{{index .Labels "b.c"}}': "two",
    '{{index .Labels "absent"}}|': "|",
    "{{index .Ports 1}}": "443/tcp",
    '{{join .Ports ","}}': "80/tcp,443/tcp",
    "{{.Ports}}": "[80/tcp 443/tcp]",
    "{{.Labels}}": "map[a:1 b.c:two]",
    "{{upper .Names}}{{.Names | upper | lower}}": "WEBweb",
    "{{len .Ports}}": "2",
    '{{printf "%s is %d, %5.1f%%" .Names .Size .Size}}': "web is 1536, 1536.0%",
    '{{printf "%-6s|%6s|%.2s" .Names .Names .Names}}': "web   |   web|we",
    "{{if .Running}}up{{else}}down{{end}}": "up",
    "{{if not .Running}}up{{else if .Nothing}}?{{else}}down{{end}}": "down",
    '{{if eq .State.Status "running"}}yes{{end}}': "yes",
    "{{if and .Running (gt .Size 1000)}}big{{end}}": "big",
    "{{range .Ports}}{{.}};{{end}}": "80/tcp;443/tcp;",
    "{{range .Nothing}}x{{else}}none{{end}}": "none",
    "{{range .Ports}}{{$.ID}} {{end}}": "4e2f 4e2f ",
    "{{with .State}}{{.Status}}={{.ExitCode}}{{end}}": "running=0",
    "{{/* nothing */}}a {{- /* nor this */ -}} b": "ab",
    "a {{- .ID -}} b": "a4e2fb",
    '{{"}}"}}{{`a\\n`}}{{"a\\n"}}': "}}a\\na\n",
    "{{.Running}} {{.Nothing}}.": "true .",
    "{{(index .Ports 0) | upper}}": "80/TCP",
    "{{println .ID .Names}}": "4e2f web\n",
    "{{truncate .ID 2}}{{pad .ID 1 1}}": "4e 4e2f ",
    '{{range split .Names ""}}{{.}}-{{end}}': "w-e-b-",
}

REFUSED = {
    "{{.ID": 1,
    "{{.ID}": 1,
    "{{}}": 3,
    "{{.ID | }}": 9,
    "{{foo .ID}}": 3,
    "{{.Absent}}": 3,
    "{{.ID.x}}": 3,
    "{{if .ID}}": 6,
    "{{end}}": 6,
    "{{else}}": 7,
    "{{if .ID}}{{else}}{{else}}{{end}}": 6,
    "{{.ID .Names}}": 3,
    "{{.ID ) }}": 7,
    "{{(.ID}}": 3,
    '{{"abc}}': 1,
    "{{$x := 1}}": 3,
    '{{template "a"}}': 3,
    "{{.ID | .Names}}": 9,
    "{{len .Size}}": 3,
    "{{index .Ports 7}}": 3,
    '{{printf "%z" .ID}}': 3,
    '{{printf "%d" .ID}}': 3,
    '{{printf "%99999d" 1}}': 3,
    '{{printf "%s"}}': 3,
    "{{range .Size}}{{end}}": 9,
    "{{upper}}": 3,
    "{{end .ID}}": 6,
    "{{1x}}": 3,
    "{{" + "(" * 99 + ".ID" + ")" * 99 + "}}": 53,
}


@pytest.mark.parametrize("text", RENDERED)
def test_template_renders_as_docker_and_podman_do(text: str) -> None:
    assert Template(text).render(ROW) == RENDERED[text]


@pytest.mark.parametrize("text", REFUSED)
def test_template_error_says_at_which_character(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        Template(text).render(ROW)
    assert caught.value.message.startswith(f"--format, character {REFUSED[text]}:")
    assert caught.value.hint


def test_template_error_names_the_fields_that_exist() -> None:
    with pytest.raises(SpecError) as caught:
        Template("{{.Name}}").render(ROW)
    assert "Names" in caught.value.hint


PIECES = st.sampled_from(
    [*RENDERED, *REFUSED, "{{", "}}", "{{-", "-}}", "(", ")", "|", ".", '"', "`", "\\", "$", " "]
    + ["if", "else", "end", "range", "with", "{{end}}", "{{else}}", "/*", "*/", "-", "%", "9", "x"]
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["ID", "Names", "Labels", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@hypothesis.settings(max_examples=1500)
@hypothesis.given(TEXTS, st.just(ROW) | VALUES)
def test_template_never_crashes(text: str, value: object) -> None:
    try:
        assert isinstance(Template(text).render(value), str)
        assert isinstance(Template(text).heading({}), str)
    except SpecError as error:
        assert error.message.startswith("--format")


@hypothesis.given(st.text().filter(lambda text: "{" not in text and "\\" not in text))
def test_template_without_actions_is_itself(text: str) -> None:
    assert Template(text).render(ROW) == text


@hypothesis.given(VALUES)
def test_template_json_can_be_read_back(value: object) -> None:
    text = Template("{{json .}}").render(value)
    assert json.dumps(json.loads(text)) == json.dumps(value)


def test_template_that_writes_without_end_is_stopped() -> None:
    value = {"L": list(range(300))}
    text = "{{range .L}}" + "{{range $.L}}" * 3 + "x" * 500 + "{{end}}" * 4
    with pytest.raises(SpecError, match="more than"):
        Template(text).render(value)


def printed(capfdbinary, *arguments: object, **options: object) -> str:
    print_rows(*arguments, **options)
    import sys

    sys.stdout.flush()
    return capfdbinary.readouterr().out.decode()


def test_rows_print_as_a_table_with_headings(capfdbinary) -> None:
    assert printed(capfdbinary, [ROW], COLUMNS) == "MACHINE ID   NAMES\n4e2f         web\n"


def test_rows_print_as_json(capfdbinary) -> None:
    assert json.loads(printed(capfdbinary, [ROW], COLUMNS, "json")) == [ROW]


def test_rows_print_a_line_for_each_template(capfdbinary) -> None:
    assert printed(capfdbinary, [ROW, ROW], COLUMNS, "{{.ID}}!") == "4e2f!\n4e2f!\n"


def test_rows_print_as_a_table_of_a_template(capfdbinary) -> None:
    form = r"table {{.Names}}\t{{.Labels.a}}\t{{.ID | upper}}"
    text = printed(capfdbinary, [ROW], COLUMNS, form)
    assert text == "NAMES   A   MACHINE ID\nweb     1   4E2F\n"


def test_rows_print_ids_alone_when_quiet(capfdbinary) -> None:
    assert printed(capfdbinary, [ROW, ROW], COLUMNS, quiet="ID") == "4e2f\n4e2f\n"


def test_rows_of_none_print_headings_only(capfdbinary) -> None:
    assert printed(capfdbinary, [], COLUMNS) == "MACHINE ID   NAMES\n"
    assert printed(capfdbinary, [], COLUMNS, "{{.ID}}") == ""
    assert printed(capfdbinary, [], COLUMNS, "json") == "[]\n"


def test_rows_with_odd_bytes_and_escapes_print(capfdbinary) -> None:
    row = {**ROW, "Names": "a\x1b[2J\udcff\ud800"}
    print_rows([row], COLUMNS)
    print_rows([row], COLUMNS, "{{.Names}}")
    assert b"\x1b" not in capfdbinary.readouterr().out.splitlines()[1]


@pytest.mark.parametrize("form", ["yaml", "text", "", "table {{", "{{"])
def test_form_that_is_none_is_refused(form: str) -> None:
    with pytest.raises(SpecError):
        print_rows([], COLUMNS, form) if form.startswith("table") else printer(form)


def test_records_are_a_list_or_a_template(capfdbinary) -> None:
    print_records([ROW], "{{.State.Status}}")
    assert capfdbinary.readouterr().out == b"running\n"
    with pytest.raises(SpecError, match="for listings"):
        print_records([ROW], "table {{.ID}}")


def test_filters_want_each_key_and_any_of_its_values() -> None:
    tests = {
        "name": lambda row, value: re.search(value, row["Names"]) is not None,
        "label": lambda row, value: labels_match(row["Labels"], value),
    }
    assert Filters(["name=x", "name=we", "label=a=1"], tests).match(ROW)
    assert Filters([], tests).match(ROW)
    assert not Filters(["label=a", "label=z"], tests).match(ROW)
    assert not Filters(["name=we", "label=a=2"], tests).match(ROW)
    for word in ("nme=web", "name", ""):
        with pytest.raises(SpecError, match="is unknown"):
            Filters([word], tests)


def test_labels_are_read_and_need_a_name() -> None:
    assert parse_labels(["a=b=c", "d"]) == {"a": "b=c", "d": ""}
    with pytest.raises(SpecError, match="no name"):
        parse_labels(["=x"])
