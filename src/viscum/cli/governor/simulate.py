"""`viscum governor simulate`: CPU traces replayed, without machines."""

from __future__ import annotations

import os
import sys

from ...errors import SpecError
from ...governor.manners import CLASSES, DEFAULT_CLASS, manner_of
from ...governor.simulate import LOWEST, REACTION, WARM_UP, Score, replay, replay_fixed
from ...governor.traces import read_traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...governor.traces import Trace
    from ..parser import Parsed

    Peer = Callable[[Sequence[float], float], Sequence[float]]

__all__ = ["main"]

PERIOD = 300.0
LONGEST_PERIOD = 86400.0
PEERS = "benchmarks/governor/peers.py"
WORTH_A_PROCESS = 20_000
"""Samples from which a second process pays for its start."""


def main(parsed: Parsed) -> int:
    """Print slack and unserved of the governor, and of the peers where a checkout has them."""
    form = parsed.text("format") or "text"
    if form not in ("text", "json"):
        raise SpecError(f"format {form!r} is unknown", hint="text or json")
    if not parsed.words:
        raise SpecError("there is no trace to simulate", hint="viscum governor simulate TRACE…")
    period = _period(parsed.text("period"))
    names = [parsed.text("class") or DEFAULT_CLASS]
    names = list(CLASSES) if names == ["all"] else [manner_of(names[0]).name]
    traces = [trace for path in parsed.words for trace in read_traces(path)]
    if max(len(trace.samples) for trace in traces) * period <= WARM_UP:
        hours = WARM_UP / 3600
        raise SpecError(
            f"no trace is longer than the first {hours:g} hours, which are not counted",
            hint="give longer traces, or the right --period",
        )
    scores = {}
    for name in names:
        title = "viscum" if len(names) == 1 else f"viscum-{name}"
        scores[title] = _replay_all(traces, period, name)
    for name, peer in _peers(parsed.text("peers")).items():
        scores[name] = _replay_peer(peer, traces, period)
    _print(scores, traces, form)
    return 0


def _period(text: str | None) -> float:
    try:
        period = PERIOD if text is None else float(text)
    except ValueError:
        period = 0.0
    if not REACTION < period <= LONGEST_PERIOD:
        raise SpecError(
            f"period {text!r} is out of range",
            hint=f"seconds between two samples, above {REACTION:g} and at most {LONGEST_PERIOD:g}",
        )
    return period


def _replay_all(traces: list[Trace], period: float, name: str) -> Score:
    workers = min(len(os.sched_getaffinity(0)), 64)
    samples = sum(len(trace.samples) for trace in traces)
    parts = [(traces[n::workers], period, name) for n in range(workers)]
    if workers == 1 or samples < WORTH_A_PROCESS:
        return _replay_part((traces, period, name))
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # spawn: a fork is not safe in a process with threads, and nothing is worth sharing here
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(_replay_part, parts), Score())


def _replay_part(part: tuple[list[Trace], float, str]) -> Score:
    traces, period, name = part
    manner = manner_of(name)
    return sum((replay(trace, period, manner) for trace in traces), Score())


def _replay_peer(peer: Peer, traces: list[Trace], period: float) -> Score:
    total = Score()
    for trace in traces:
        limits = [max(limit, LOWEST) for limit in peer(trace.samples, period)]
        total += replay_fixed(limits, trace, period)
    return total


def _peers(given: str | None) -> dict[str, Peer]:
    """Return the peers of the checkout that this installation or the working folder belongs to."""
    if given == "none":
        return {}
    path = given or _find_peers()
    if path is None:
        return {}
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("viscum_governor_peers", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise SpecError(f"peers {path!r} cannot be loaded", hint=f"a file like {PEERS}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.PEERS)


def _find_peers() -> str | None:
    """Return the peers' file; only one that nobody but the caller or root can have written."""
    places = [os.getcwd(), os.path.dirname(sys.prefix)]
    for place in places:
        path = os.path.join(place, PEERS)
        checked = [
            place,
            *(os.path.join(place, part) for part in ("benchmarks", "benchmarks/governor")),
            path,
        ]
        try:
            status = [os.stat(each) for each in checked]
        except OSError:
            continue
        if all(s.st_uid in (0, os.geteuid()) and not s.st_mode & 0o22 for s in status):
            return path
    return None


def _print(scores: dict[str, Score], traces: list[Trace], form: str) -> None:
    if form == "json":
        import json

        rows = {
            name: {"slack": round(score.slack, 4), "unserved": round(score.unserved, 6)}
            for name, score in scores.items()
        }
        print(json.dumps(rows))
        return
    print(f"{'':<16}{'slack':>8}{'unserved':>12}")
    for name, score in scores.items():
        print(f"{name:<16}{score.slack:>8.3f}{score.unserved:>11.3%}")
    samples = sum(len(trace.samples) for trace in traces)
    print(f"{len(traces)} traces, {samples} samples", file=sys.stderr)
