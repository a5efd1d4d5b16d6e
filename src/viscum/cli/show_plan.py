"""`viscum plan`: the launch program of a machine, printed or compiled."""

from __future__ import annotations

import os
import sys

from .. import launching
from ..errors import SpecError, ViscumError
from ..plan import Plan
from ..request import make_spec
from .machine_options import machine_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parser import Parsed

__all__ = ["main"]


def _interpreter() -> str:
    """Return the path of viscum-launch, for the first line of a plan that runs by itself."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "viscum-launch")
    return beside if os.access(beside, os.X_OK) else "/usr/bin/env -S viscum-launch"


def _write(path: str, plan: Plan) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "xb") as file:
            file.write(f"#!{_interpreter()}\n".encode() + plan.encode())
        os.chmod(temporary, 0o700)  # the environment is in it
        os.rename(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise ViscumError(f"cannot write {path!r}: {(error.strerror or '').lower()}") from None


def main(parsed: Parsed) -> int:
    """Print the plan, or write it compiled."""
    command, options, fixed = machine_options(parsed)
    if fixed["tty"] and parsed.text("output"):
        raise SpecError("a compiled plan has no terminal to give", hint="leave --tty out")
    spec = make_spec(command, options, **fixed)
    compiled = launching.compile_machine(spec, launching.this_host())
    for lost in compiled.lost:
        print(f"viscum: warning: this host cannot give {lost}", file=sys.stderr)
    output = parsed.text("output")
    if output:
        _write(output, compiled.plan)
        return 0
    form = parsed.text("format") or "text"
    if form == "text":
        print(compiled.plan.describe())
    elif form == "json":
        import json

        print(json.dumps([operation.as_dict() for operation in compiled.plan.operations], indent=1))
    else:
        raise SpecError(f"format {form!r} is unknown", hint="text or json")
    return 0
