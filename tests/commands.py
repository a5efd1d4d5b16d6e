"""The installed commands, as the tests of the command line call them."""

from __future__ import annotations

import re
import subprocess

from callers import script

TIMEOUT = 60
VISCUM, LAUNCH = script("viscum"), script("viscum-launch")


def call(*words: str, **options: object) -> subprocess.CompletedProcess:
    """Run a command of this installation; its output is kept."""
    return run_words(VISCUM, *words, **options)


def start(*words: str, **options: object) -> subprocess.Popen:
    """Start a command of this installation; its standard output is a pipe."""
    settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    return subprocess.Popen([VISCUM, *words], **settings)


def assert_refused(done: subprocess.CompletedProcess, code: int = 125) -> None:
    """One clear error, nothing else."""
    text = done.stderr.decode()
    assert done.returncode == code, (done.returncode, text)
    assert "Traceback" not in text
    assert len(re.findall("^viscum: ", text, re.MULTILINE)) == 1, text
    assert done.stdout == b""


def run_words(*words: object, **options: object) -> subprocess.CompletedProcess:
    """Run any command; its output is kept."""
    settings = {"capture_output": True, "timeout": TIMEOUT, "check": False, **options}
    if "input" not in settings:
        settings.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([str(word) for word in words], **settings)
