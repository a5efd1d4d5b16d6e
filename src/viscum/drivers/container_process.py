"""The first process of an OCI container, or one more: streams, limits, ids, filter, command."""

from __future__ import annotations

import os

from ..errors import SpecError
from ..guard.capabilities import CAPABILITIES
from ..host import status_field
from ..plan import NONE, nul_ended, op
from .parts import RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..bundle import Bundle
    from ..plan import Operation
    from .parts import Sections, Slots

__all__ = ["ProcessBuilder", "proc_of_our_own"]

MAX_LIMIT = (1 << 64) - 1
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
DOMAINS = {"LINUX": 0, "LINUX32": 8}
FILTER, HOOK, LABEL = b"S\0\0\0", b"H\0\0\0", b"L\0\0\0"


def _choose(value: str, choices: dict[str, int], where: str) -> int:
    if value not in choices:
        raise SpecError(f"{where} {value!r} is unknown", hint=f"one of {', '.join(choices)}")
    return choices[value]


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _counted(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape") + b"\0"
    return _number(len(data)) + data


def _counted_all(texts: list[str]) -> bytes:
    return _number(len(texts)) + b"".join(_counted(text) for text in texts)


def proc_of_our_own(slot: int, options: bytes, *, owned: bool) -> Operation:
    """Return the operation that makes a proc. Only who owns the pid namespace may mount one; others
    clone the host's with all that lies on it, so before the container's root takes its place.
    """
    if owned:
        return op("fsmount", slot, "proc", "proc", options, 0)
    return op("clone-tree", slot, NONE, "/proc", 1, 0)


class ProcessBuilder:
    """Adds the operations of a process to `parts`."""

    def __init__(self, bundle: Bundle, slots: Slots, parts: Sections) -> None:
        self.bundle = bundle
        self.process = bundle.process
        self.slots = slots
        self.parts = parts
        self.terminal = NONE
        self.profile: str = self.process.get("apparmorProfile", "")
        self.label: str = self.process.get("selinuxLabel", "")
        self.proc = self.attributes = NONE
        self.boot_filter = b""

    def _enter(self, name: str, *values: int | str | bytes) -> None:
        self.parts.enter.append(op(name, *values))

    def open_proc(self, *, owned: bool) -> None:
        """Add a proc of our own, in which nobody can have laid something else, for labels. Where
        one can be mounted it shows nothing but processes: the container's init gets a descriptor.
        """
        if self.profile or self.label:
            from .labels import check_process

            check_process(self.profile, self.label)
            self.proc = self.slots()
            options = nul_ended(["subset", "pid"])
            self.parts.enter.append(proc_of_our_own(self.proc, options, owned=owned))

    def prepare(self) -> None:
        """Add what the child inherits from its parent."""
        score = self.process.get("oomScoreAdj")
        if score is not None:
            if not -1000 <= score <= 1000:
                raise SpecError(f"process.oomScoreAdj {score} is not within -1000 to 1000")
            self.parts.prepare.append(op("oom-score", str(score)))

    def affinity(self) -> tuple[int, ...]:
        """Add the CPUs that a later process runs on; those that the runtime starts it on, none
        where they stay as they are, are returned. The first process has neither.
        """
        given = self.process.get("execCPUAffinity", {})
        where = "process.execCPUAffinity"
        if given.get("final"):
            mask = _cpu_mask(given["final"], f"{where}.final")
            self._enter("affinity", mask.to_bytes((mask.bit_length() + 63) // 64 * 8, "little"))
        mask = _cpu_mask(given["initial"], f"{where}.initial") if given.get("initial") else 0
        return tuple(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)

    def enter(
        self,
        seccomp: dict[str, Any] | None,
        *,
        private_ids: bool,
        sets_groups: bool,
        makes_cwd: bool = True,
    ) -> None:
        """Add everything from the working folder, which may have to be made, to the filter.
        `sets_groups`: whether the user namespace allows setgroups(2).
        """
        process = self.process
        cwd = process["cwd"]
        if not cwd.startswith("/"):
            raise SpecError(f"process.cwd {cwd!r} is not an absolute path")
        self._enter("inner-folder", cwd, int(makes_cwd))
        self._streams()
        self._limits()
        self._scheduling()
        user = process.get("user", {})
        self._enter("umask", user.get("umask", 0o22))
        self._labels()
        if self.bundle.new_keyring:
            self._enter("session-keyring")
        self._command_is_there()
        privileged = not process.get("noNewPrivileges")
        program, flags = self._filter(seccomp)
        listens = self.bundle.listener >= 0
        if not privileged:
            self._enter("no-new-privileges")
        self._groups(user.get("additionalGids", []), allowed=sets_groups)
        self._enter("parent-death", 0)
        if program and (privileged or listens):
            self._enter("close-from", 3 + self.bundle.preserve)
            self._load_filter(program, flags, listens=listens)
            self._privileges(user, private_ids=private_ids)
        else:
            self._privileges(user, private_ids=private_ids)
            self._enter("close-from", 3 + self.bundle.preserve)
            self.boot_filter = _number(flags) + program if program else b""

    def _groups(self, groups: list[int], *, allowed: bool) -> None:
        text = " ".join(map(str, groups))
        if allowed and (groups or os.geteuid() == 0):
            self._enter("groups", text)
        elif groups:
            why = "the user namespace, of a user without subordinate ids, denies setgroups"
            self.parts.lost.append(f"process.user.additionalGids {text}: {why}")

    def _labels(self) -> None:
        """Add what is taken on at the next exec. That is the init's, but a label of SELinux is for
        the command: its domain may be barred from our init and from the fifo that this waits at.
        So it is tried here, where an error ends the launch, and set by the init.
        """
        if self.profile:
            self._enter("write", self.proc, "self/attr/apparmor/exec", f"exec {self.profile}")
        if self.label:
            for text in (self.label, "\n"):
                self._enter("write", self.proc, "self/attr/exec", text)
            if self.bundle.new_keyring:
                self._enter("write", self.proc, "self/attr/keycreate", self.label)
            self.attributes = self.slots()
            self._enter("lookup", self.attributes, self.proc, "self/attr", os.O_DIRECTORY)

    def _streams(self) -> None:
        uid = self.process.get("user", {}).get("uid", 0)
        size = self.process.get("consoleSize", {})
        if not self.process.get("terminal"):
            self._enter("stdio")
            self._enter("own-streams", uid, 0)
            return
        far = self.slots()
        if self.bundle.terminal:
            self.terminal = self.slots()
            self.parts.prepare.append(op("sockets", self.terminal, far))
        else:
            self.parts.load.append(op("inherit", far, self.bundle.console))
        self._enter("console", far, size.get("height", 0), size.get("width", 0), uid)
        self._enter("stdio")

    def _limits(self) -> None:
        seen = set()
        for at, limit in enumerate(self.process.get("rlimits", [])):
            name = limit["type"]
            short = name.removeprefix("RLIMIT_").lower()
            if short not in RLIMITS or not name.startswith("RLIMIT_"):
                raise SpecError(f"process.rlimits[{at}].type {name!r} is unknown")
            if name in seen:
                raise SpecError(f"process.rlimits[{at}]: {name} is given twice")
            seen.add(name)
            self._enter("rlimit", RLIMITS.index(short), limit["soft"], limit["hard"])

    def _scheduling(self) -> None:
        scheduler = self.process.get("scheduler")
        if scheduler:
            policy = _choose(scheduler["policy"], POLICIES, "process.scheduler.policy")
            flags = 0
            for name in scheduler.get("flags", []):
                flags |= _choose(name, SCHEDULER_FLAGS, "process.scheduler.flags")
            numbers = [scheduler.get(key, 0) for key in ("runtime", "deadline", "period")]
            nice, priority = scheduler.get("nice", 0), scheduler.get("priority", 0)
            self._enter("scheduler", policy, nice & MAX_LIMIT, priority, flags, *numbers)
        priority = self.process.get("ioPriority")
        if priority:
            kind = _choose(priority["class"], IO_CLASSES, "process.ioPriority.class")
            level = priority.get("priority", 0)
            if not 0 <= level <= 7:
                raise SpecError(f"process.ioPriority.priority {level} is not within 0 to 7")
            self._enter("io-priority", kind << 13 | level)
        persona = self.bundle.linux.get("personality")
        if persona:
            domain = _choose(persona["domain"], DOMAINS, "linux.personality.domain")
            if persona.get("flags"):
                raise SpecError("linux.personality.flags are not supported by the specification")
            self._enter("personality", domain)

    def _command_is_there(self) -> None:
        words = self.process.get("args", [])
        if not words:
            raise SpecError("process.args is empty")
        path = ""
        for pair in self.process.get("env", []):
            if pair.startswith("PATH="):
                path = pair[5:]
        self._enter("find-program", words[0], path)

    def _capability_masks(self, *, private_ids: bool) -> list[int]:
        """Return the five sets; what this kernel or runtime cannot give is left out, and told."""
        given = self.process.get("capabilities", {})
        known = int(status_field("CapBnd") or "0", 16)
        can = known if not private_ids else (1 << len(CAPABILITIES)) - 1
        masks = []
        for name in SETS:
            mask = 0
            for word in given.get(name, []):
                short = word.upper().removeprefix("CAP_")
                number = CAPABILITIES.index(short) if short in CAPABILITIES else -1
                if number < 0 or not can >> number & 1:
                    lost = f"the capability {word}: unknown or not available here"
                    if lost not in self.parts.lost:
                        self.parts.lost.append(lost)
                else:
                    mask |= 1 << number
            masks.append(mask)
        masks[4] &= masks[2] & masks[3]  # ambient ones must be permitted and inheritable
        return masks

    def _privileges(self, user: dict[str, Any], *, private_ids: bool) -> None:
        masks = self._capability_masks(private_ids=private_ids)
        bounding, effective, permitted, inheritable, ambient = masks
        effective &= permitted
        sets = bounding, effective, permitted, inheritable, ambient
        self._enter("privileges", *sets, user.get("uid", 0), user.get("gid", 0))

    # The filter.

    def _filter(self, seccomp: dict[str, Any] | None) -> tuple[bytes, int]:
        if not seccomp:
            return b"", 0
        from ..guard.profile_reader import read_value
        from ..guard.seccomp import compile_policy

        system = os.uname()
        caps = frozenset(self.process.get("capabilities", {}).get("bounding", []))
        major, minor = system.release.split(".")[:2]
        policy = read_value(seccomp, caps, system.machine, (int(major), int(minor)))
        if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
            raise SpecError("linux.seccomp.listenerMetadata is given, but no listenerPath")
        return compile_policy(policy, system.machine), policy.flags

    def _load_filter(self, program: bytes, flags: int, *, listens: bool) -> None:
        if not listens:
            self._enter("seccomp", program, flags)
            return
        socket = self.slots()
        self.parts.load.append(op("inherit", socket, self.bundle.listener))
        parts = [part.encode() for part in self.bundle.state("listener")]
        self._enter("seccomp-listen", program, flags, socket, *parts)

    # The init.

    def boot(self, hooks: list[dict[str, Any]]) -> Operation:
        """Return the operation that becomes the container's init."""
        records = b""
        for hook in hooks:
            before, after = self.bundle.state("created")
            record = _number(max(0, hook.get("timeout", 0))) + _counted(hook["path"])
            record += _counted_all(hook.get("args") or [hook["path"]])
            record += _counted_all(hook.get("env", []))
            record += b"".join(_number(len(h.encode())) + h.encode() for h in (before, after))
            records += HOOK + _number(len(record)) + record
        if self.boot_filter:
            records += FILTER + _number(len(self.boot_filter)) + self.boot_filter
        if self.label:
            label = self.label.encode("utf-8", "surrogateescape")
            records += LABEL + _number(len(label)) + label
        program, data, gate = self.slots(), self.slots(), NONE
        self.parts.load.append(op("program", program, self.bundle.init))
        self.parts.load.append(op("data", data, records))
        if self.bundle.gate >= 0:
            gate = self.slots()
            self.parts.load.append(op("inherit", gate, self.bundle.gate))
        words, pairs = nul_ended(self.process["args"]), nul_ended(self.process.get("env", []))
        return op("exec-boot", program, data, gate, self.attributes, words, pairs)


def _cpu_mask(text: str, where: str) -> int:
    """Return the mask of a list of CPUs such as `0-2,4`."""
    mask = 0
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) <= 8191):
            raise SpecError(f"{where} {text!r} is not a list of CPUs", hint="such as 0-2,4")
        for number in range(int(low), int(high) + 1):
            mask |= 1 << number
    return mask
