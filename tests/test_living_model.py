"""Random commands against a model of the states of machines, compared after each step."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile

import hypothesis
import pytest
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import viscum
from needs import needs
from places import groups_of, is_running, until
from viscum.detached import DetachedMachine

pytestmark = needs("userns", "freezer")

NAMES = strategies.sampled_from(("one", "two"))
ALLOWED = {
    "start": {"created": "running", "exited": "running"},
    "stop": {
        "created": "created",
        "exited": "exited",
        "running": "exited",
        "paused": "exited",
    },
    "restart": dict.fromkeys(("created", "exited", "running", "paused"), "running"),
    "pause": {"running": "paused"},
    "unpause": {"paused": "running"},
    "kill": {"running": "exited", "paused": "exited"},
    "remove": {"created": None, "exited": None},
    "force": dict.fromkeys(("created", "exited", "running", "paused")),
    "lose": {"running": "running"},
}
"""For each verb, from which state it leads to which; from the others it is refused."""


class Machines(RuleBasedStateMachine):
    """Two names, each of which is free, or that of a machine in one of its states."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="viscum-test-")
        os.environ["VISCUM_DATA"] = f"{self.folder}/data"
        os.environ["VISCUM_RUN"] = f"{self.folder}/run"
        self.states: dict[str, str] = {}
        self.lives: dict[str, int] = {}

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        script = "echo life; exec sleep 600"
        if name in self.states:
            with pytest.raises(viscum.MachineError, match="there already"):
                DetachedMachine.create(["sh", "-c", script], name=name)
        else:
            DetachedMachine.create(["sh", "-c", script], name=name)
            self.states[name], self.lives[name] = "created", 0

    @rule(name=NAMES, verb=strategies.sampled_from(sorted(ALLOWED)))
    def act(self, name: str, verb: str) -> None:
        if name not in self.states:
            with pytest.raises(viscum.MachineError, match="no machine"):
                DetachedMachine.find(name)
            return
        machine, before = DetachedMachine.find(name), self.states[name]
        if before not in ALLOWED[verb]:
            if verb != "lose":
                with pytest.raises(viscum.MachineError, match=f"is {before}"):
                    self._do(machine, verb)
            return
        self._do(machine, verb)
        after = ALLOWED[verb][before]
        if after is None:
            del self.states[name]
            return
        self.states[name] = after
        started = verb in ("start", "restart")
        self.lives[name] += started

    @staticmethod
    def _do(machine: DetachedMachine, verb: str) -> None:
        hypothesis.event(verb)
        if verb == "force":
            machine.remove(force=True)
        elif verb == "kill":
            machine.kill()
            machine.wait(20)
        elif verb == "lose":
            monitor = machine.status.monitor
            os.kill(monitor, 9)
            until(lambda: machine.monitor_is_lost, "the loss")
            machine.take_over()
        else:
            getattr(machine, verb)()

    @rule(name=NAMES, other=NAMES)
    def rename(self, name: str, other: str) -> None:
        if name not in self.states:
            return
        machine = DetachedMachine.find(name)
        if other in self.states:
            with pytest.raises(viscum.MachineError, match="there already"):
                machine.rename(other)
            return
        machine.rename(other)
        self.states[other], self.lives[other] = self.states.pop(name), self.lives.pop(name)

    @rule(name=NAMES)
    def run(self, name: str) -> None:
        state = self.states.get(name)
        if state == "running":
            assert DetachedMachine.find(name).run(["echo", "in"]).text == "in\n"
        elif state is not None:
            with pytest.raises(viscum.MachineError, match=f"is {state}"):
                DetachedMachine.find(name).run(["true"])

    @invariant()
    def the_host_is_as_the_model_says(self) -> None:
        found = {machine.name: machine for machine in viscum.machines(all=True)}
        assert {name: machine.state for name, machine in found.items()} == self.states
        for name, machine in found.items():
            lives = self.states[name] in ("running", "paused")
            assert bool(groups_of(machine.id)) == lives
            assert is_running(machine.pid) == lives
            if lives and self.states[name] == "running":
                until(lambda m=machine: len(list(m.logs())) == self.lives[m.name], "a line a life")
        names = pathlib.Path(self.folder, "data", "names")
        taken = {path.name for path in names.iterdir()} if names.exists() else set()
        assert taken == set(self.states)

    def teardown(self) -> None:
        for machine in viscum.machines(all=True):
            machine.remove(force=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("VISCUM_DATA", "VISCUM_RUN"):
            del os.environ[name]


Machines.TestCase.settings = hypothesis.settings(
    max_examples=25, stateful_step_count=40, phases=[hypothesis.Phase.generate]
)
test_machines_are_as_the_model_says = Machines.TestCase
