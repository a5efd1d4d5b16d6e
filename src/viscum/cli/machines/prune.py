"""`viscum prune`."""

from __future__ import annotations

from ...detached import machines
from ...errors import SpecError
from ...registry import leftovers
from ...wiping import wipe
from ..filters import Filters, labels_match
from ..moments import parse_moment
from ..several import confirm, each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

TESTS = {
    "label": lambda row, value: labels_match(row["labels"], value),
    "until": lambda row, value: row["created"] < parse_moment(value, "--filter until"),
}


def main(parsed: Parsed) -> int:
    """Remove the machines that do not run, and what crashes left of others."""
    if parsed.words:
        raise SpecError(f"{parsed.words[0]!r} is too much", hint="viscum rm NAME")
    filters = Filters(parsed.texts("filter"), TESTS)
    ended = [
        machine
        for machine in machines(all=True)
        if machine.state in ("created", "exited")
        and filters.match(
            {"labels": dict(machine.config.labels), "created": machine.config.created / 1e9}
        )
    ]
    if ended and not parsed.on("force") and not confirm(f"remove {len(ended)} machines?"):
        return 1
    by_name = {machine.name: machine for machine in ended}

    def remove(name: str) -> None:
        by_name[name].remove()
        print(name)

    code = each(by_name, remove)
    for path in leftovers():
        wipe(path)
    return code
