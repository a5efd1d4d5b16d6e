"""The entry point of `viscum`: find the verb, import it alone, turn errors into exit codes."""

from __future__ import annotations

import gc
import os
import sys

from .errors import ViscumError

__all__ = ["leave", "main"]

USAGE_ERROR = 125


def _run(words: list[str]) -> int:
    from .cli.parser import parse
    from .cli.table import find

    if not words or words[0] in ("-h", "--help", "help"):
        from .cli.help import main_help

        print(main_help())
        return 0
    found = find(["version", *words[1:]] if words[0] == "--version" else words)
    if found is None:
        return _unknown(words)
    command, rest = found
    parsed = parse(command, rest)
    if parsed.on("help"):
        from .cli.help import command_help

        print(command_help(command))
        return 0
    verb = __import__(f"viscum.cli.{command.module}", fromlist=["main"])
    return int(verb.main(parsed))


def _unknown(words: list[str]) -> int:
    """Show the commands of a group such as `volume`, or complain."""
    from .cli.help import group_help
    from .cli.table import names

    text = group_help(words[0])
    asked = words[1:] in ([], ["-h"], ["--help"])
    if text and asked:
        print(text)
        return 0
    name = " ".join(words[:2]) if text else words[0]
    print(f"viscum: {name!r} is no command (one of: {', '.join(names())})", file=sys.stderr)
    return USAGE_ERROR


def main() -> int:
    """Run the command line of this process and return its exit code."""
    gc.disable()  # a command is over before there is anything to collect
    try:
        return _run(sys.argv[1:])
    except ViscumError as error:
        print(f"viscum: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        print(f"viscum: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130


def leave(key: int = -1, plan: str = "") -> None:
    """End this process with `main`'s exit code, without taking the interpreter apart (2 ms).

    `key` and `plan` are what the native command found for `cli.remember`.
    """
    if key >= 0:
        from .cli import remember

        remember.key_descriptor, remember.plan_path = key, plan
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or 141
    except (OSError, ValueError) as error:
        print(f"viscum: cannot write to stdout: {error}", file=sys.stderr)
        code = code or 125
    os._exit(code)


if __name__ == "__main__":
    leave()
