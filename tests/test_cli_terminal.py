"""A machine on a terminal: job control, sizes, Ctrl-C, and what is put back."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import termios
import time
from typing import TYPE_CHECKING

from callers import python_words
from commands import TIMEOUT, VISCUM, run_words, start
from needs import needs
from terminals import Terminal

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")


def shell(*options: str) -> Terminal:
    """A shell in a machine, on a terminal, at its prompt."""
    terminal = Terminal([VISCUM, "run", "-it", "-e", "PS1=at> ", *options, "--", "sh"])
    terminal.expect("at> ")
    return terminal


@needs("namespace-tools")
def test_terminal_works_as_in_a_shell() -> None:
    with shell() as terminal:
        terminal.type("echo $((6 * 7)); tty; test -t 0 && test -t 1 && test -t 2 && echo all\n")
        terminal.expect("42\r\n/dev/pts/0\r\nall")
        terminal.type("exit 7\n")
        assert terminal.wait() == 7


@needs("namespace-tools")
def test_terminal_follows_the_size_of_the_window() -> None:
    with shell() as terminal:
        terminal.type("stty size\n")
        terminal.expect("24 80")
        terminal.type("trap 'echo changed' WINCH\n")
        terminal.expect("at> ")
        terminal.resize(40, 133)
        time.sleep(0.3)
        terminal.type("stty size\n")
        terminal.expect("40 133")
        terminal.type("exit\n")
        terminal.wait()


@needs("namespace-tools")
def test_control_c_interrupts_the_command_and_not_the_machine() -> None:
    with shell() as terminal:
        terminal.type("sleep 600; echo status $?\n")
        terminal.expect("status \\$")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.expect("at> ")
        terminal.type("echo still here\n")
        terminal.expect("\nstill here")
        terminal.type("exit\n")
        assert terminal.wait() in (0, 130)


@needs("namespace-tools")
def test_control_z_stops_a_job_that_goes_on() -> None:
    with shell() as terminal:
        terminal.type("sleep 600\n")
        terminal.expect("600")
        time.sleep(0.3)
        terminal.type("\x1a")
        terminal.expect("(?i)(stopped|suspended)")
        terminal.type("jobs; kill %1; bg; wait; echo over\n")
        terminal.expect("\nover")
        terminal.type("exit\n")
        terminal.wait()


@needs("namespace-tools")
def test_control_d_ends_the_input() -> None:
    with Terminal([VISCUM, "run", "-it", "--", "cat"]) as terminal:
        terminal.type("line\n")
        terminal.expect("line\r\nline")
        terminal.type("\x04")
        assert terminal.wait() == 0


@needs("namespace-tools")
def test_terminal_is_put_back(folder: pathlib.Path) -> None:
    for command, code in ((["true"], 0), (["sh", "-c", "stty raw -echo; exit 3"], 3)):
        with Terminal([VISCUM, "run", "-it", "--", *command]) as terminal:
            assert terminal.wait() == code
            assert termios.tcgetattr(terminal.slave) == terminal.before


@needs("namespace-tools")
def test_terminal_is_put_back_when_the_command_is_missing() -> None:
    with Terminal([VISCUM, "run", "-it", "--", "no-such-command"]) as terminal:
        assert terminal.wait() == 127
        assert termios.tcgetattr(terminal.slave) == terminal.before


@needs("namespace-tools")
def test_terminal_is_put_back_when_the_caller_is_ended() -> None:
    with Terminal([VISCUM, "run", "-it", "--", "sh", "-c", "echo up; exec sleep 600"]) as terminal:
        terminal.expect("up")
        terminal.process.terminate()
        assert terminal.wait() == 128 + signal.SIGTERM
        assert termios.tcgetattr(terminal.slave) == terminal.before


@needs("namespace-tools")
def test_terminal_has_colours_and_a_type() -> None:
    with shell() as terminal:
        terminal.type("printf '\\033[31mred\\033[0m\\n'; echo type=$TERM\n")
        terminal.expect("\x1b\\[31mred\x1b\\[0m")
        terminal.expect("type=[a-z]")
        terminal.type("exit\n")
        terminal.wait()


@needs("namespace-tools")
def test_terminal_full_of_output_loses_nothing() -> None:
    with Terminal([VISCUM, "run", "-t", "--", "seq", "20000"]) as terminal:
        terminal.expect("\n20000\r+\n")
        assert terminal.wait() == 0


@needs("namespace-tools")
def test_machine_without_a_terminal_does_not_get_the_callers() -> None:
    """It could read what is typed elsewhere, or change the terminal's settings."""
    command = "for n in 0 1 2; do test -t $n && echo terminal $n; done; echo end"
    with Terminal([VISCUM, "run", "--", "sh", "-c", command]) as terminal:
        terminal.expect("end")
        assert b"terminal" not in terminal.seen
        assert terminal.wait() == 0


def test_a_lot_can_be_pasted() -> None:
    """Echo and output mix as the kernel likes; nothing that `cat` wrote is lost, nothing hangs."""
    data = b"".join(b"line %d\n" % number for number in range(30000))
    process = start("run", "-i", "-t", "--", "cat", stdin=subprocess.PIPE)
    out, _ = process.communicate(data, timeout=TIMEOUT)
    assert process.returncode == 0
    assert out.endswith(b"line 29999\r\n")
    assert out.count(b"\n") >= 30000


def test_terminal_of_a_machine_is_an_ordinary_users_too(user: Caller) -> None:
    words = [*user.command(*user_words(user)), "run", "-t", "--", "tty"]
    done = run_words(*words, env=user.environment(), cwd="/")
    assert done.stdout.strip() == b"/dev/pts/0", done.stderr


def user_words(user: Caller) -> list[str]:
    return [VISCUM] if user.here else [*python_words(False), "-m", "viscum"]
