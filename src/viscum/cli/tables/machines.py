"""Commands about machines that live on."""

from __future__ import annotations

from ..parser import HELP, Command, Option
from .launching import DETACH_KEYS, LIMITS
from .volumes import FORMAT, NO_TRUNC

__all__ = ["COMMANDS"]

TIME = Option("-t --time", "SECONDS", "how long it may take before it is killed")
SIGNAL = Option("-s --signal", "SIGNAL", "by name or number")
FILTER = Option("-f --filter", "KEY=VALUE", "only those that fit", repeats=True)
QUIET = Option("-q --quiet", "", "ids only")
ALL = Option("-a --all", "", "every machine there is")

COMMANDS = (
    Command(
        "ps",
        "machines.ps",
        "[OPTIONS]",
        "list machines",
        (
            Option("-a --all", "", "also those that do not run"),
            Option("-n --last", "NUMBER", "only so many, the newest"),
            FILTER,
            FORMAT,
            NO_TRUNC,
            QUIET,
            HELP,
        ),
    ),
    Command(
        "start",
        "machines.start",
        "[OPTIONS] NAME…",
        "start machines that were created or have ended",
        (
            Option("-a --attach", "", "stay with it until it ends"),
            Option("-i --interactive", "", "pass what is typed"),
            DETACH_KEYS,
            Option("--sdnotify", "monitor|ignore", "tell systemd that it is ready"),
            HELP,
        ),
    ),
    Command(
        "stop", "machines.stop", "[OPTIONS] NAME…", "ask machines to end", (TIME, SIGNAL, ALL, HELP)
    ),
    Command(
        "restart",
        "machines.restart",
        "[OPTIONS] NAME…",
        "stop machines and start them again",
        (TIME, ALL, HELP),
    ),
    Command(
        "kill",
        "machines.kill",
        "[OPTIONS] NAME…",
        "send a signal to machines, KILL by default",
        (SIGNAL, ALL, HELP),
    ),
    Command(
        "rm",
        "machines.rm",
        "[OPTIONS] NAME…",
        "remove machines",
        (
            Option("-f --force", "", "also those that run; none is no error"),
            Option("-v --volumes", "", "and volumes without a name that only they have"),
            ALL,
            HELP,
        ),
    ),
    Command(
        "wait",
        "machines.wait",
        "NAME…",
        "wait until machines have ended",
        (HELP,),
    ),
    Command(
        "exec",
        "machines.exec",
        "[OPTIONS] NAME COMMAND [ARGUMENT…]",
        "run a command in a running machine",
        (
            Option("-d --detach", "", "leave it running"),
            Option("-i --interactive", "", "keep stdin open"),
            Option("-t --tty", "", "give it a terminal"),
            Option("-e --env", "NAME[=VALUE]", "set a variable, or pass it on", repeats=True),
            Option("--env-file", "FILE", "read variables from a file", repeats=True),
            Option("-u --user", "USER[:GROUP]", "user and group, by name or number"),
            Option("-w --workdir", "FOLDER", "working folder in the machine"),
            HELP,
        ),
        passes=True,
    ),
    Command(
        "attach",
        "machines.attach",
        "[OPTIONS] NAME",
        "join a machine's streams",
        (Option("--no-stdin", "", "only watch"), DETACH_KEYS, HELP),
    ),
    Command(
        "logs",
        "machines.logs",
        "[OPTIONS] NAME…",
        "print what machines wrote",
        (
            Option("-f --follow", "", "go on until it has ended"),
            Option("--since", "TIME", "only what came later: 10m (ago), or a time"),
            Option("--until", "TIME", "only what came before"),
            Option("-n --tail", "NUMBER|all", "only so many lines from the end"),
            Option("-t --timestamps", "", "the time before each line"),
            HELP,
        ),
    ),
    Command("pause", "machines.pause", "NAME…", "freeze every process of machines", (ALL, HELP)),
    Command("unpause", "machines.unpause", "NAME…", "let paused machines go on", (ALL, HELP)),
    Command("rename", "machines.rename", "NAME NEW", "give a machine another name", (HELP,)),
    Command(
        "update",
        "machines.update",
        "[OPTIONS] NAME…",
        "change limits of machines while they run",
        (
            *(option for option in LIMITS if option.key != "oom_policy"),
            Option("--reclaim", "SECONDS", "time to take memory back that is above a new limit"),
            Option("--restart", "POLICY", "no, on-failure[:N], always, unless-stopped"),
            HELP,
        ),
    ),
    Command(
        "inspect",
        "machines.inspect",
        "[OPTIONS] NAME…",
        "print all that is known of machines, or of images",
        (FORMAT, HELP),
    ),
    Command(
        "prune",
        "machines.prune",
        "[OPTIONS]",
        "remove the machines that do not run",
        (
            Option("--filter", "KEY=VALUE", "only those that fit: label, until", repeats=True),
            Option("-f --force", "", "do not ask"),
            HELP,
        ),
    ),
)
