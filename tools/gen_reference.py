"""Write docs/reference/cli.md and docs/reference/python.md from the code.

    gen_reference.py            write both
    gen_reference.py --check    write nothing; 1 where a page is not what would be written

The command line comes from the table in `viscum.cli.table`. The Python API is read from the
sources as text, so neither the compiled core nor an installation is needed.
"""

from __future__ import annotations

import ast
import functools
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "viscum"
PAGES = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT / "src"))

from viscum.cli.table import commands  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from viscum.cli.parser import Command, Option

WRITTEN = "<!-- Written by tools/gen_reference.py; do not edit. -->"

CLI_HEAD = """\
# The command line

Options stand before the command of the machine; the first word that is no option, or `--`, ends
them. Short switches can be joined (`-it`), and a value follows its option after a space or `=`.

What a command prints as data goes to standard output, everything else to standard error.

| exit code | meaning |
|---|---|
| 125 | the engine failed: a wrong option, something the host lacks, a launch that failed |
| 126 | the command exists and cannot be executed |
| 127 | the command was not found |
| 128 + n | the command, or the machine, ended by signal n; 137 after `--timeout` |
| other | the command's own |
"""

NOTES = {
    "interactive": "Without it the machine reads from `/dev/null`.",
    "tty": "A terminal of the machine's own devpts. Without it a terminal of the caller is never "
    "handed in: pipes stand between. See [terminals](../how-to/terminals.md).",
    "name": "Two running machines cannot have the same name.",
    "env": "`NAME` alone passes the caller's value, and nothing where the caller has none. "
    "Nothing else of the caller's environment reaches the machine.",
    "env_file": "Lines as `NAME=VALUE`; empty lines and those that begin with `#` do not count.",
    "volume": "The third part holds `ro`, `rw`, `exec`, `noexec`, with commas between. A source "
    "that begins with `.`, `/` or `~` is made absolute. "
    "See [volumes](../how-to/volumes.md).",
    "mount": "Keys: `type` (`bind`, `tmpfs`), `source` or `src`, `target`, `dst` or "
    "`destination`, `readonly` or `ro`, `tmpfs-size`, `tmpfs-mode`.",
    "tmpfs": "After the colon: `size`, `mode` (octal), `ro`, `exec`. Without `exec` nothing on it "
    "can be executed.",
    "user": "Names are looked up in the `/etc/passwd` and `/etc/group` of the machine's root.",
    "entrypoint": "One word, not a line for a shell.",
    "memory": "At least 512K. Units are powers of 1024: `k`, `m`, `g`, `t`, also as `MB`, `MiB`.",
    "memory_swap": "Never below `--memory`, which it needs. `-1` is no limit on swap.",
    "cpus": "At least 0.01. Bounds are for [the governor](../how-to/governor.md); where nobody "
    "governs, the upper one is the limit.",
    "class": "Only with bounds. `latency` machines are served first, `idle` ones last.",
    "print_unit": "See [the governor](../how-to/governor.md#let-systemd-keep-it-running).",
    "pids_limit": "`0` and `-1` are no limit.",
    "ulimit": "Names as in getrlimit(2), without `RLIMIT_`, in small letters; values are numbers "
    "or `unlimited`.",
    "read_only": "Only mounts, `/tmp`, `/run` and the like of the host's root stay writable.",
    "cap_add": "Names as in capabilities(7), with or without `CAP_`. See "
    "[the default set](../../SECURITY.md#what-a-machine-starts-with).",
    "security_opt": "`seccomp=` takes a profile in Docker's JSON format or `unconfined`. "
    "`unmask=ALL` shows the masked paths of the kernel. `label=` and `apparmor=` are refused.",
    "network": "`private` needs pasta(1). See [networks](../how-to/networks.md).",
    "userns": "`host` needs root. What each loosening opens stands in "
    "[SECURITY.md](../../SECURITY.md#loosenings).",
    "pid": "`host` needs a cgroup of version 2, which alone can end all of such a machine.",
    "rootfs": "Never written to: a layer in memory lies over it.",
    "timeout": "Seconds, also fractions of them.",
    "strict": "Without it, what was lost is said once on standard error.",
    "sysctl": "`net.*` with a network of its own; `kernel.msg*`, `kernel.sem`, `kernel.shm*` and "
    "`fs.mqueue.*` with an ipc namespace of its own.",
    "output": "The file begins with `#!` and the path of viscum-launch.",
    "format": "Templates are those of Docker and Podman: `{{.Name}}`, `{{json .}}`, "
    "`table {{.ID}}\\t{{.Names}}`. See [formats](../how-to/formats.md).",
    "detach": "The id is printed; a monitor stays with the machine, and no Python. See "
    "[machines that live on](../how-to/living.md).",
    "restart": "Only with a machine that lives on. The first pause is 100 ms, each that follows "
    "twice as long, at most 60 s; after 10 s of life the next is a first one again.",
    "health_cmd": "Run in the machine with `sh -c`; exit code 0 is healthy.",
    "log_opt": "`max-size` of a file and the number of files (`max-file`) bound the log; "
    "`max-rate` bytes a second bound the machine: what is above waits.",
    "on_monitor_loss": "`keep` (default): the machine lives on, what it writes waits in its "
    "pipes, and the next command gives it a new monitor. `end`: it ends with its monitor.",
    "ipc": "`machine:NAME` also as `container:NAME`, here and with `--pid` and `--network`.",
    "detach_keys": "Keys as `ctrl-LETTER` or single letters, with commas between; empty: none.",
    "time": "Seconds, also fractions of them.",
    "since": "A duration ago (`10m`), RFC 3339, or a unix time.",
    "until": "As `--since`.",
}

LAUNCH = """\
## viscum-launch

    viscum-launch FILE

Run a plan that `viscum plan -o` compiled, with no Python. FILE may also be executed itself. It
takes no options. Standard input, output and error are the machine's; signals are forwarded. The
exit code is the command's own, 128 + n after signal n, or one of 125, 126 and 127 as above.

It refuses, with 125, a file that is not a plan or is damaged, a plan of another format, of
another kernel or architecture, and a plan whose root or volumes were replaced since.
See [plans](../how-to/plans.md).
"""

PYTHON_HEAD = """\
# The Python API

`import viscum` is cheap: each of these names is imported when it is first used. Everything here
is typed, may be called from any thread, and raises what the tree at the end shows.
"""

CHAPTERS = (
    ("Running", "run run_async Result Usage Pressure DeviceUsage"),
    ("Machines", "Machine Process PIPE STDOUT DEVNULL"),
    ("Machines that live on", "machines DetachedMachine Attachment Output LogEntry Status"),
    ("Images", "Image"),
    ("What is asked for", "Mount Device Rlimit Limits IoLimit Spec Health LogOptions"),
    ("Events", "events Event"),
    ("Limits that follow the workload", "Governor"),
)

OPTIONS = {
    "rootfs": "the machine's root; None is the host's own. Never written to",
    "image": "an image instead of a rootfs: its name, or an `Image`",
    "pull": 'when its registry is asked: `"missing"` (default), `"always"`, `"newer"`, `"never"`',
    "platform": 'another platform than the host\'s: `"linux/arm64"`',
    "storage": 'how the image is kept: `"overlay"` or `"erofs"`; as it is or as the store has it',
    "entrypoint": "what the command is given to, instead of the image's entrypoint; () for none",
    "env": "variables, beside `PATH`, `HOME`, `HOSTNAME` and `container`",
    "workdir": "working folder, absolute; `/` by default",
    "user": '`"USER[:GROUP]"`, names or numbers; root by default',
    "groups": "additional groups, names or numbers",
    "hostname": '`"viscum"` by default; 1 to 64 characters',
    "mounts": "`Mount` objects",
    "devices": '`Device` objects or `"SOURCE[:TARGET][:rwm]"`',
    "memory": 'bytes, or text such as `"512M"`; at least 512 KiB; or bounds, `"64M..1G"`',
    "memory_swap": "memory and swap together, as `memory`; -1 for no limit on swap",
    "cpus": 'CPUs worth of time, at least 0.01; or bounds for the governor, `"0.5..2"`',
    "cpu_shares": "relative weight, 2 to 262144",
    "cpuset_cpus": 'CPUs it may run on: `"0-2,4"`',
    "cpuset_mems": 'memory nodes it may use: `"0"`',
    "cpu_quota": "microseconds of CPU time in each period; -1 for no limit",
    "cpu_period": "microseconds, 1000 to 1000000; 100000 by default",
    "cpu_burst": "microseconds of unused quota that may be saved for later",
    "cpu_weight": "relative weight, 1 to 10000; instead of `cpu_shares`",
    "cpu_idle": "run only when nothing else wants to",
    "memory_reservation": "bytes that are not reclaimed as long as others have some",
    "memory_high": "reclaimed and slowed above it (cgroup v2)",
    "memory_low": "as `memory_reservation` (cgroup v2)",
    "memory_min": "never reclaimed below it (cgroup v2)",
    "memory_zswap": "bytes of compressed swap (cgroup v2)",
    "memory_swappiness": "0 to 100 (cgroup v1)",
    "oom_group": "out of memory, all of the machine is killed (cgroup v2)",
    "oom_policy": 'out of memory: `"kill"`, `"pause"` or `"grow:2G"`, up to that size',
    "oom_kill_disable": "out of memory, it waits (cgroup v1)",
    "io": "`IoLimit` objects",
    "io_weight": "relative weight of I/O, 1 to 10000",
    "hugetlb": '`{"2MB": "64M"}`: huge pages by their size',
    "rdma": '`{"mlx4_0": "hca_handle=2"}` (cgroup v2)',
    "misc": '`{"sev": 1}` (cgroup v2)',
    "pids": "number of processes and threads",
    "rlimits": "`Rlimit` objects",
    "read_only": "no writable layer over the root",
    "network": '`"none"` (loopback only), `"host"`, `"private"` (a way out through pasta)',
    "userns": '`"private"` or `"host"`',
    "pid": '`"private"` or `"host"`',
    "ipc": '`"private"` or `"host"`',
    "uts": '`"private"` or `"host"`',
    "cap_add": 'capabilities to add, or `"ALL"`',
    "cap_drop": 'capabilities to drop, or `"ALL"`',
    "seccomp": '`"default"`, `"unconfined"`, or the path of a profile in Docker\'s format',
    "no_new_privileges": "setuid programs gain nothing; on by default",
    "unmask": "show the masked paths of the kernel",
    "sysctls": "settings of the machine's own namespaces",
    "hosts": "host name to address, for `/etc/hosts`",
    "dns": "name servers for `/etc/resolv.conf`",
    "init": "run an init that reaps and forwards signals",
    "machine_class": 'how the governor treats it: `"latency"`, `"batch"` or `"idle"`; with bounds',
    "strict": "raise HostError where the host cannot give everything; otherwise it is warned of",
}
"""What each key of `request.Options` means; the types come from there."""


# The command line.


def option_row(option: Option) -> str:
    """Return the row of an option."""
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    value = f"`{option.value}`".replace("|", "\\|") if option.value else ""
    parts = [sentence(option.help).replace("|", "\\|")]
    parts += ["Can be repeated."] if option.repeats else []
    parts += [NOTES[option.key]] if option.key in NOTES else []
    return f"| {flags} | {value} | {' '.join(parts)} |"


def sentence(text: str) -> str:
    """Return a help text with a capital, unless it begins with a key, and an end."""
    begin = text if "=" in text.split(maxsplit=1)[0] else text[0].upper() + text[1:]
    return begin if begin[-1] in ".…" else begin + "."


def command_section(command: Command) -> Iterator[str]:
    """Yield the lines of a command; the options of another one are not told again."""
    yield from (f"## viscum {command.name}", "", f"    viscum {command.name} {command.usage}", "")
    yield from (sentence(command.help), "")
    options = set(command.options)
    for other in commands().values():
        if set(other.options) < options and len(other.options) > 2:
            yield from (f"It takes the options of `viscum {other.name}`, and:", "")
            options -= set(other.options)
    yield from ("| option | value | what it does |", "|---|---|---|")
    yield from (option_row(option) for option in command.options if option in options)
    yield ""


def cli_page() -> str:
    """Return the reference of the command line."""
    keys = {option.key for command in commands().values() for option in command.options}
    check("NOTES", set(NOTES) - keys)
    lines = [WRITTEN, "", *CLI_HEAD.splitlines(), ""]
    for command in commands().values():
        lines += command_section(command)
    return "\n".join([*lines, *LAUNCH.splitlines(), ""])


def check(what: str, odd: set[str]) -> None:
    """End with a message where the texts here and the code do not fit."""
    if odd:
        names = ", ".join(sorted(odd))
        raise SystemExit(f"gen_reference.py: {what} and the code differ in {names}")


# The Python API.

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = ast.ClassDef | Function
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def source(name: str) -> str:
    """Return the text of a module below `viscum`."""
    return (SOURCE / f"{name.replace('.', '/')}.py").read_text()


@functools.cache
def module(name: str) -> ast.Module:
    """Return the parsed module of that name below `viscum`."""
    return ast.parse(source(name))


def written(home: str, node: ast.expr) -> str:
    """Return an expression as it is written in a module, a private constant by its value."""
    if isinstance(node, ast.Name) and node.id not in homes():
        for other in (home, "process"):
            for item in module(other).body:
                if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == node.id:
                    return ast.get_source_segment(source(other), item.value) or ""
    return (ast.get_source_segment(source(home), node) or "").removeprefix("signals.")


def constant(tree: ast.Module, name: str) -> object:
    """Return the value of a literal that a module assigns to `name`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise SystemExit(f"gen_reference.py: no {name}")


@functools.cache
def homes() -> dict[str, str]:
    """Return the module of each public name."""
    table = constant(module("__init__"), "_HOMES")
    assert isinstance(table, dict)
    return {name: home for home, names in table.items() for name in names.split()}


def definition(tree: ast.AST, name: str) -> Node | None:
    """Return the class or function `name`, wherever in the module it stands."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and node.name == name:
            return node
    return None


def doc(node: Node) -> list[str]:
    """Return the lines of a docstring."""
    return (ast.get_docstring(node) or "").splitlines()


def parameters(given: ast.arguments, home: str) -> Iterator[str]:
    """Yield the parameters of a function as code."""
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    for argument, default in zip(positional, defaults, strict=True):
        if argument.arg != "self":
            yield parameter(argument, default, home)
    if given.kwonlyargs:
        yield "*"
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield parameter(argument, default, home)
    if given.kwarg:
        yield "**" + parameter(given.kwarg, None, home)


def signature(node: Function, name: str, home: str) -> list[str]:
    """Return a call of `node` as code: on one line where it fits, else one parameter a line."""
    words = list(parameters(node.args, home))
    result = f" -> {ast.unparse(node.returns)}" if node.returns and node.name[:2] != "__" else ""
    head = ("async def " if isinstance(node, ast.AsyncFunctionDef) else "def ") + name
    line = f"{head}({', '.join(words)}){result}"
    if len(line) <= 88:
        return [line]
    return [f"{head}(", *(f"    {word}," for word in words), f"){result}"]


def parameter(given: ast.arg, default: ast.expr | None, home: str) -> str:
    """Return a parameter as code."""
    text = given.arg + (f": {ast.unparse(given.annotation)}" if given.annotation else "")
    return text if default is None else f"{text} = {written(home, default)}"


def code(lines: list[str]) -> list[str]:
    """Return lines as a block of code that nothing runs."""
    return ["```text", *lines, "```", ""]


def fields(node: ast.ClassDef, home: str) -> Iterator[str]:
    """Yield the fields of a record, each with what stands below it."""
    for place, statement in enumerate(node.body):
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target)[0] != "_":
            text = ast.unparse(statement.target) + ": " + ast.unparse(statement.annotation)
            if statement.value:
                text += f" = {written(home, statement.value)}"
            after = node.body[place + 1] if place + 1 < len(node.body) else None
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield f"- `{text}`" + (f": {after.value.value.strip()}" if told else "")


def attributes(node: ast.ClassDef) -> Iterator[str]:
    """Yield what a class sets on itself, as ATTRIBUTES tells of it."""
    told = ATTRIBUTES.get(node.name, {})
    targets = {ast.unparse(item) for item in ast.walk(node) if isinstance(item, ast.Attribute)}
    missing = {f"{node.name}.{name}" for name in told if f"self.{name}" not in targets}
    check("ATTRIBUTES", missing)
    yield from (f"- `{name}`: {text}" for name, text in told.items())


def properties(node: ast.ClassDef) -> Iterator[str]:
    """Yield the methods that read like attributes, and second names of them."""
    found = {}
    for item in node.body:
        if isinstance(item, FUNCTIONS) and "property" in map(ast.unparse, item.decorator_list):
            found[item.name] = item
            kind = ast.unparse(item.returns) if item.returns else "object"
            text = " ".join(doc(item))
            yield f"- `{item.name}: {kind}`: {text[0].lower()}{text[1:]}"
        if isinstance(item, ast.Assign) and ast.unparse(item.value) in found:
            yield f"- `{ast.unparse(item.targets[0])}`: the same as `{ast.unparse(item.value)}`."


def methods(node: ast.ClassDef, home: str) -> Iterator[str]:
    """Yield the methods that others may call, and second names of them."""
    found = {}
    for item in node.body:
        if isinstance(item, FUNCTIONS) and not item.decorator_list and item.name[0] != "_":
            found[item.name] = item
            if f"{node.name}.{item.name}" not in INTERNAL:
                yield from (f"#### {node.name}.{item.name}", "")
                yield from (*code(signature(item, item.name, home)), *doc(item), "")
        if isinstance(item, ast.Assign) and ast.unparse(item.value) in found:
            name = ast.unparse(item.targets[0])
            yield from (f"#### {node.name}.{name}", "")
            yield from (f"The same as `{node.name}.{ast.unparse(item.value)}`.", "")


def entry(name: str, home: str) -> list[str]:
    """Return the lines of one public name."""
    node = definition(module(home), name)
    lines = [f"### {name}", ""]
    if node is None:
        return [*lines, STREAMS[name], ""]
    if not isinstance(node, ast.ClassDef):
        return [*lines, *code(signature(node, name, home)), *doc(node), ""]
    init = definition(node, "__init__")
    if isinstance(init, FUNCTIONS) and name != "Process":
        lines += code([line.removeprefix("def ") for line in signature(init, name, home)])
    lines += [*doc(node), ""]
    if any(ast.unparse(base) == "Frozen" for base in node.bases):
        lines += fields(node, home)
    return [*lines, *attributes(node), *properties(node), "", *methods(node, home)]


STREAMS = {
    "PIPE": "A pipe to the caller, as `subprocess.PIPE`.",
    "STDOUT": "For stderr: where stdout goes, as `subprocess.STDOUT`.",
    "DEVNULL": "Nothing, as `subprocess.DEVNULL`.",
}
"""The constants that stand for streams."""

ATTRIBUTES = {
    "Machine": {
        "id": "its id, also the name of its control groups; empty until it is started.",
        "name": "the name it was given, or None.",
        "spec": "the `Spec` it is made of.",
        "out_of_memory": "with an `oom_policy`, what happened when it ran out of memory.",
        "stdin": "with `PIPE`, a file to write to; of the first process, as the next two.",
        "stdout": "with `PIPE`, a file to read from.",
        "stderr": "with `PIPE`, a file to read from.",
    },
    "Process": {
        "args": "the command.",
        "pid": "its process id on the host.",
        "stdin": "with `PIPE`, a file to write to.",
        "stdout": "with `PIPE`, a file to read from.",
        "stderr": "with `PIPE`, a file to read from.",
    },
}
"""What objects carry that is neither a field nor a property."""

INTERNAL = ("Machine.forget", "Machine.thaw", "Process.finish")
"""Methods that modules of Viscum call on each other."""


def options_section() -> Iterator[str]:
    """Yield the table of what `run`, `run_async` and `Machine` take."""
    found = []
    for name in ("Options", "LimitOptions"):
        node = definition(module("request"), name)
        assert isinstance(node, ast.ClassDef)
        found += [item for item in node.body if isinstance(item, ast.AnnAssign)]
    names = [ast.unparse(item.target) for item in found]
    check("OPTIONS", set(names) ^ set(OPTIONS))
    yield from ("## Options", "")
    yield "`run`, `run_async` and `Machine` take these, by name. All are optional."
    yield from ("", "| option | type | meaning |", "|---|---|---|")
    for name, item in zip(names, found, strict=True):
        kind = ast.unparse(item.annotation).replace("|", "\\|")
        yield f"| `{name}` | `{kind}` | {OPTIONS[name]} |"
    yield ""


def errors_section(public: dict[str, str]) -> Iterator[str]:
    """Yield the exceptions."""
    tree = (ast.get_docstring(module("errors")) or "").partition("\n\n")[2]
    yield from ("## Errors", "", *code(tree.splitlines()))
    for name, home in public.items():
        node = definition(module(home), name) if home == "errors" else None
        if node is not None:
            yield from (f"### {name}", "", *doc(node), "")


def python_page() -> str:
    """Return the reference of the Python API."""
    public = homes()
    told = {name for _, names in CHAPTERS for name in names.split()}
    check("CHAPTERS", {name for name, home in public.items() if home != "errors"} ^ told)
    lines = [WRITTEN, "", *PYTHON_HEAD.splitlines(), ""]
    for chapter, names in CHAPTERS:
        lines += [f"## {chapter}", ""]
        for name in names.split():
            lines += entry(name, public[name])
        if chapter == "Running":
            lines += options_section()
    lines += errors_section(public)
    lines += ["## Version", "", "### \\_\\_version\\_\\_", "", "The version of Viscum, as text."]
    return squeeze("\n".join([*lines, ""]))


def squeeze(text: str) -> str:
    """Leave no two empty lines together."""
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def main(arguments: list[str]) -> int:
    """Write or check both pages."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(__doc__ or "")
        return 2
    stale = 0
    for name, text in (("cli.md", cli_page()), ("python.md", python_page())):
        path = PAGES / name
        if not arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.relative_to(ROOT)} is not what tools/gen_reference.py writes")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
