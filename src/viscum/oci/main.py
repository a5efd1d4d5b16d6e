"""The entry of everything that `viscum-oci` does not do natively."""

from __future__ import annotations

import os
import sys
import time

from ..errors import SpecError, ViscumError
from ..places import run_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .words import Words

__all__ = ["Call", "leave"]

VERSION = "1.2.0"
"""Of the runtime specification."""


def default_root() -> str:
    """Return the folder of states; root of a user namespace is an ordinary user to the host."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and not os.environ.get("VISCUM_RUN") and os.geteuid() == 0:
        with open("/proc/self/uid_map", "rb") as file:
            words = file.read().split()
        if len(words) != 3 or words[2] != b"4294967295":
            return f"{runtime}/viscum/oci"
    return f"{run_folder()}/oci"


class Call:
    """How the runtime was called: global options, the verb, and its own."""

    def __init__(self, bin_: str, words: list[str], copy: int = -1) -> None:
        self.bin = bin_
        self.copy = copy
        """A descriptor of a sealed copy of the native program."""
        self.argv = words
        self.root = default_root()
        self.log = ""
        self.log_format = "text"
        self.systemd = False
        self.criu = "criu"
        self.verb = ""
        self.given: Words
        self.words: list[str] = []

    def say(self, level: str, message: str) -> None:
        """Write a line to the log in the format asked for. Where that is a file, standard error has
        the bare text: whoever called shows it to people.
        """
        from .document import dump

        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.log_format == "json":
            line = dump({"level": level, "msg": message, "time": when})
        else:
            line = f'time="{when}" level={level} msg={dump(message)}'
        if self.log:
            try:
                with open(self.log, "a", encoding="utf-8") as file:
                    file.write(line + "\n")
                line = message
            except OSError as error:
                reason = (error.strerror or "").lower()
                print(f"viscum-oci: log {self.log}: {reason}", file=sys.stderr)
        print(line, file=sys.stderr)

    def warn(self, message: str) -> None:
        """Tell of something that is not as it was asked for."""
        self.say("warning", message)


def _read_globals(call: Call) -> list[str]:
    from .words import GLOBAL, read_words

    options, rest = read_words(call.argv, GLOBAL)
    call.root = options.text("root") or call.root
    call.root = os.path.abspath(call.root)
    call.log = options.text("log")
    call.criu = options.text("criu") or "criu"
    call.systemd = options.on("systemd-cgroup")
    form = options.text("log-format", "text")
    if form not in ("text", "json"):
        raise SpecError(f"invalid log-format {form!r}", hint="text or json")
    call.log_format = form
    if options.on("version"):
        return ["version"]
    return ["help"] if options.on("help") or not rest else rest


def _run(call: Call) -> int:
    from .words import VERBS, read_words

    rest = _read_globals(call)
    call.verb = rest[0]
    if call.verb in ("help", "version"):
        from . import about

        return about.show(call.verb, rest[1:])
    if call.verb not in VERBS:
        raise SpecError(f"no such command: {call.verb}", hint="see viscum-oci --help")
    verb = VERBS[call.verb]
    call.given, call.words = read_words(rest[1:], [*verb.options, "help,h"])
    if call.words and not verb.rest:  # options may follow the id too
        more, others = read_words(call.words[1:], [*verb.options, "help,h"])
        call.given.options.update(more.options)
        for name, values in more.lists.items():
            call.given.lists.setdefault(name, []).extend(values)
        call.words = [call.words[0], *others]
    if call.given.on("help"):
        from . import about

        return about.show("help", [call.verb])
    if verb.module == "native":
        raise SpecError(f"{call.verb} takes: {verb.usage}", hint=f"got {' '.join(rest[1:])!r}")
    wanted = verb.usage.partition("[")[0].split()
    if len(call.words) < len(wanted) and "process" not in call.given.options:
        raise SpecError(f"{call.verb} needs {' '.join(wanted)}", hint="see --help")
    if not verb.rest and len(call.words) > len(wanted):
        raise SpecError(f"{call.verb} takes {verb.usage or 'no words'}, got {call.words!r}")
    module = __import__(f"viscum.oci.{verb.module}", fromlist=["main"])
    return int(module.main(call))


def main(bin_: str, copy: int) -> int:
    """Run the command line of this process and return its exit code."""
    words = sys.argv[1:]
    if words[:1] in (["--explain"], ["--hooks"], ["--end-scope"]):
        from . import follow_up

        return follow_up.main(bin_, words)
    call = Call(bin_, words, copy)
    try:
        return _run(call)
    except ViscumError as error:
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        call.say("error", text)
        return 255 if call.verb == "exec" else 1
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        call.say("error", str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def leave(bin_: str, copy: int = -1) -> None:
    """End this process with `main`'s exit code, without taking the interpreter apart.

    `bin_` is the folder of the native program, `copy` a descriptor of a sealed copy of it.
    """
    code = main(bin_, copy)
    try:
        sys.stdout.flush()
    except OSError:
        code = code or 1
    os._exit(code)
