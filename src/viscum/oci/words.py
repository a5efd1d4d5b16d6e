"""The command line: global options, verbs with theirs, as runc has them."""

from __future__ import annotations

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GLOBAL", "VERBS", "Verb", "is_number", "read_words"]


class Verb:
    """A verb: its module, its options, how many words it takes, and what it does.

    An option that ends with "=" has a value, with "=*" one each time that it is given; after "," it
    has a short name.
    """

    def __init__(
        self, module: str, usage: str, doc: str, options: str = "", *, rest: bool = False
    ) -> None:
        self.module = module
        self.usage = usage
        self.doc = doc
        self.options = options.split()
        self.rest = rest
        """Whether options end at the first word, since what follows is a command's."""


GLOBAL = "root= log= log-format= debug systemd-cgroup rootless= criu= help,h version,v".split()

_LAUNCH = "bundle,b= console-socket= pid-file= no-pivot no-new-keyring preserve-fds= "
_CRIU = (
    "image-path= work-path= tcp-established ext-unix-sk shell-job file-locks page-server= "
    "manage-cgroups-mode= empty-ns=* parent-path= lsm-profile= lsm-mount-context= "
)

VERBS: Mapping[str, Verb] = {
    "create": Verb("create", "ID", "create a container", _LAUNCH),
    "run": Verb(
        "create",
        "ID",
        "create and start a container",
        _LAUNCH + "detach,d keep no-subreaper",
    ),
    "start": Verb("native", "ID", "start a created container"),
    "state": Verb("native", "ID", "print the state of a container"),
    "kill": Verb("native", "ID [SIGNAL]", "send a signal, by default SIGTERM", "all,a"),
    "delete": Verb("native", "ID", "remove what is kept of a container", "force,f"),
    "exec": Verb(
        "execute",
        "ID COMMAND [ARGUMENT...]",
        "run one more process in a container",
        "console-socket= cwd= env,e=* tty,t user,u= additional-gids,g=* process,p= detach,d "
        "pid-file= process-label= apparmor= no-new-privs cap,c=* preserve-fds= cgroup=* "
        "ignore-paused no-subreaper",
        rest=True,
    ),
    "list": Verb("listing", "", "list containers", "format,f= quiet,q"),
    "ps": Verb("processes", "ID [PS OPTIONS]", "list processes", "format,f=", rest=True),
    "pause": Verb("freeze", "ID", "suspend all processes of a container"),
    "resume": Verb("freeze", "ID", "let a paused container go on"),
    "update": Verb(
        "update",
        "ID",
        "change the limits of a container",
        "resources,r= blkio-weight= cpu-period= cpu-quota= cpu-burst= cpu-rt-period= "
        "cpu-rt-runtime= cpu-share= cpuset-cpus= cpuset-mems= memory= memory-reservation= "
        "memory-swap= kernel-memory= kernel-memory-tcp= pids-limit= cpu-idle= l3-cache-schema= "
        "mem-bw-schema=",
    ),
    "events": Verb("events", "ID", "print what a container uses", "interval= stats"),
    "spec": Verb("template", "", "write a config.json to begin with", "bundle,b= rootless"),
    "features": Verb("features", "", "print what this runtime can do"),
    "checkpoint": Verb(
        "checkpoint",
        "ID",
        "save a running container with CRIU",
        _CRIU
        + "leave-running lazy-pages status-fd= pre-dump auto-dedup tcp-skip-in-flight link-remap",
    ),
    "restore": Verb(
        "restore",
        "ID",
        "bring a saved container back",
        _CRIU + _LAUNCH + "detach,d auto-dedup lazy-pages no-subreaper",
    ),
}


class Words:
    """Options and the words that are none."""

    def __init__(self) -> None:
        self.options: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.words: list[str] = []

    def on(self, name: str) -> bool:
        """Return whether a flag was given."""
        return self.options.get(name, "false") not in ("false", "0", "f", "F", "False", "FALSE")

    def text(self, name: str, default: str = "") -> str:
        """Return the value of an option."""
        return self.options.get(name, default)

    def many(self, name: str) -> list[str]:
        """Return every value that an option was given."""
        return self.lists.get(name, [])


def is_number(text: str) -> bool:
    """Return whether `text` is made of digits, and of those of ASCII alone."""
    return text.isascii() and text.isdigit()


def read_words(words: list[str], known: list[str]) -> tuple[Words, list[str]]:
    """Return what `words` say up to the first that is no option, and what follows.

    One dash or two make no difference; "--" ends the options.
    """
    names: dict[str, tuple[str, str]] = {}
    for option in known:
        text, mark, star = option.partition("=")
        long, _, short = text.partition(",")
        names[long] = names[short or long] = (long, mark + star)
    found, at = Words(), 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            return found, words[at:]
        if word[:1] != "-" or word == "-":
            return found, words[at - 1 :]
        name, mark, value = word.lstrip("-").partition("=")
        if name not in names:
            raise SpecError(f"flag provided but not defined: {word}", hint="see --help")
        long, kind = names[name]
        if not kind:
            found.options[long] = value if mark else "true"
            continue
        if not mark:
            if at == len(words):
                raise SpecError(f"flag needs an argument: {word}")
            value = words[at]
            at += 1
        found.options[long] = value
        if kind == "=*":
            found.lists.setdefault(long, []).append(value)
    return found, []
