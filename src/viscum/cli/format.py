"""`--format`: JSON, a template for each row, or a table made of a template."""

from __future__ import annotations

from ..errors import SpecError
from .listing import Column, colours, emit, lay_out, terminal_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["check_form", "print_records", "print_rows", "printer"]

HINT = "json, 'table {{.Name}}\\t{{.Labels}}', or '{{.Name}}'"


def check_form(form: str | None) -> None:
    """Raise SpecError where `form` is nothing to print with; before anything is done."""
    if form is None or form in ("json", "table"):
        return
    from .template import Template

    Template(form.removeprefix("table "))
    if "{{" not in form:
        raise SpecError(f"format {form!r} is unknown", hint=HINT)


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=1) + "\n"


def print_rows(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[Column],
    form: str | None = None,
    *,
    quiet: str = "",
    whole: bool = False,
    headings: bool = True,
) -> None:
    """Print a listing as `--format` says; without it the table of `columns`.

    With `quiet` only that field is printed, a line each. With `whole` nothing is shortened.
    Raises SpecError for a template that is none.
    """
    if quiet and form is None:
        emit("".join(f"{row[quiet]}\n" for row in rows))
    elif form == "json":
        emit(_json(list(rows)))
    elif form is None or form == "table":
        cells = [[_cell(row[column.key]) for column in columns] for row in rows]
        _print_table(cells, columns, whole=whole, headings=headings)
    elif form.startswith("table "):
        _print_template_table(rows, columns, form.removeprefix("table "), headings=headings)
    else:
        show = printer(form)
        emit("".join([show(row) for row in rows]))


def _cell(value: object) -> str:
    from .functions import as_text

    if isinstance(value, dict):
        return ",".join(f"{key}={value[key]}" for key in value)
    if isinstance(value, (list, tuple)):
        return ", ".join(as_text(item) for item in value)
    return as_text(value)


def _print_table(
    cells: Sequence[Sequence[str]], columns: Sequence[Column], *, whole: bool, headings: bool
) -> None:
    width = None if whole else terminal_width()
    lines = lay_out(cells, columns, width=width, coloured=colours(), headings=headings)
    emit("".join(f"{line}\n" for line in lines))


def _print_template_table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[Column], text: str, *, headings: bool
) -> None:
    """Print the columns that the tabs of a template make."""
    from .template import Template

    template = Template(text)
    head = template.heading({column.key: column.heading for column in columns}).split("\t")
    lines = [template.render(row).split("\t") for row in rows]
    count = max(len(head), *(len(line) for line in lines)) if lines else len(head)
    head += [""] * (count - len(head))
    last = count - 1
    made = [Column("", name, yields=int(n == last)) for n, name in enumerate(head)]
    cells = [line + [""] * (count - len(line)) for line in lines]
    _print_table(cells, made, whole=False, headings=headings)


def printer(form: str) -> Callable[[Mapping[str, object]], str]:
    """Return what makes one line of a row: for streams, such as events; JSON on one line."""
    if form == "json":
        import json

        return lambda row: json.dumps(row) + "\n"
    check_form(form)
    from .template import Template

    template = Template(form)
    return lambda row: template.render(row) + "\n"


def print_records(records: Sequence[Mapping[str, object]], form: str | None) -> None:
    """Print what `inspect` tells of several things: a JSON list, or a template for each."""
    if form is None or form == "json":
        emit(_json(list(records)))
    elif form == "table" or form.startswith("table "):
        raise SpecError(f"format {form!r} is for listings", hint="json or '{{.Name}}'")
    else:
        show = printer(form)
        emit("".join([show(record) for record in records]))
