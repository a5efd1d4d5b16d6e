"""All figures of SPECIFICATION.md in one command: a table, and JSON for those who keep it.

    python benchmarks/launch.py [--only NAME,...] [--rounds N | --quick] [--wait] [--json FILE]
    python benchmarks/launch.py --profile

It runs as root, from an environment that has this engine installed. Figures are medians of
interleaved rounds and ratios are taken pair by pair; nothing here fails for being slow. The exit
code is 1 where a benchmark could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bare_host import Unknown
from lab import Failed, Lab
from measure import Effort
from overhead import overhead_rows
from quiet import wait_for_quiet
from rows_calls import call_rows
from rows_growth import growth_rows
from rows_import import import_rows
from rows_launch import launch_rows, profile, rate_rows, second_rows
from rows_living import crowd_rows, detach_rows, exec_rows, log_rows
from rows_peers import command_rows, peer_rows, plan_rows
from workers import WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from measure import Figure

ROWS: dict[str, Callable[[Lab, Effort], Iterator[Figure]]] = {
    "calls": call_rows,
    "launch": launch_rows,
    "second": second_rows,
    "peers": peer_rows,
    "plan": plan_rows,
    "command": command_rows,
    "rate": rate_rows,
    "growth": growth_rows,
    "steady": overhead_rows,
    "import": import_rows,
    "detach": detach_rows,
    "exec": exec_rows,
    "crowd": crowd_rows,
    "log": log_rows,
}
ROUNDS, QUICK_ROUNDS = 100, 12
NAME_WIDTH = 62
HEAD = f"{'':>2}  {'':<{NAME_WIDTH}} {'ours':>9} {'theirs':>9}    {'ratio':>9}  {'target':<9}"
VERSIONS = {"bwrap": "--version", "crun": "--version", "runc": "--version"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--only", metavar="NAME,...", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--rounds", "--runs", type=int, metavar="N", help=f"{ROUNDS} by default")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    parser.add_argument("--wait", action="store_true", help="begin each in a quiet moment")
    parser.add_argument("--profile", action="store_true", help="only where the time goes")
    given = parser.parse_args()
    given.names = given.only.split(",") if given.only else list(ROWS)
    unknown = sorted(set(given.names) - set(ROWS))
    if unknown:
        parser.error(f"{unknown[0]!r} is none of: {', '.join(ROWS)}")
    return given


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if abs(value) < 10_000 else f"{value:.0f}"


def _line(figure: Figure) -> str:
    unit = figure.target.unit if figure.target else figure.value_unit
    value = f"{figure.value:.2f} {unit}" if figure.theirs is not None else ""
    target = str(figure.target) if figure.target else ""
    words = [
        f"{figure.row:>2}  {figure.name:<{NAME_WIDTH}}",
        f"{_number(figure.ours if figure.theirs is not None else None):>9}",
        f"{_number(figure.theirs):>9} {figure.unit:<2}",
        f"{value:>9}  {target:<9} {figure.verdict:<5}",
    ]
    spread = f"[{figure.quartiles[0]:.2f}-{figure.quartiles[1]:.2f}]" if figure.quartiles else ""
    return " ".join([*words, spread, figure.note]).rstrip()


def _version(program: str) -> str:
    if not shutil.which(program):
        return "not installed"
    argv = [program, VERSIONS[program]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _circumstances() -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        "time": time.time(),
        "peers": {name: _version(name) for name in VERSIONS},
    }


def _measure(
    names: Sequence[str], effort: Effort, *, wait: bool
) -> tuple[list[Figure], dict[str, str]]:
    """Run the rows; return the figures, and what went wrong by row."""
    figures, failures = [], {}
    print(HEAD, flush=True)
    for name in names:
        if wait and not wait_for_quiet():
            print(f"{name}: this host was never quiet", file=sys.stderr)
        try:
            with Lab() as lab:
                for figure in ROWS[name](lab, effort):
                    figures.append(figure)
                    print(_line(figure), flush=True)
        except (Failed, Unknown, WorkerDied, OSError) as error:
            failures[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    return figures, failures


def _print_profile(effort: Effort) -> None:
    for network, what in (("host", "no network namespace"), ("none", "lo up")):
        print(f"\nwhere a launch in a given root, {what}, spends its time (bare C, us)")
        with Lab() as lab:
            for name, us in profile(lab, effort, network):
                print(f"  {us:8.1f}  {name}", flush=True)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    given = _arguments()
    signal.signal(signal.SIGTERM, _end)
    if os.geteuid() != 0:
        print("these benchmarks need root: cgroups, mounts, and peers that run as root")
        return 1
    effort = Effort(given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS))
    if given.profile:
        _print_profile(effort)
        return 0
    before = _circumstances()
    figures, failures = _measure(given.names, effort, wait=given.wait)
    if given.json:
        plain = [figure.as_dict() for figure in figures]
        record = {"before": before, "after": _circumstances(), "failures": failures}
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump({**record, "rounds": effort.rounds, "figures": plain}, file, indent=1)
    short = [figure for figure in figures if figure.verdict == "short"]
    print(f"\n{len(figures)} figures, {len(short)} short of their target", end="")
    print(f", {len(failures)} benchmarks failed: {', '.join(failures)}" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
