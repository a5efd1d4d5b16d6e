"""What long work shows at a terminal, and only there."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

SHOW = """
import io
from viscum.cli import progress
progress.PATIENCE_SECONDS = progress.STEP_SECONDS = 0.0
with progress.Progress("copied") as made:
    stream = progress.Counted(io.BytesIO(b"x" * 3000), made)
    assert len(stream.read(2048)) == 2048
    assert len(stream.read()) == 952
"""
TIMEOUT = 30


def test_progress_is_shown_at_a_terminal_and_cleared() -> None:
    master, slave = pty.openpty()
    try:
        words = [sys.executable, "-c", SHOW]
        subprocess.run(words, stderr=slave, check=True, timeout=TIMEOUT)
        shown = os.read(master, 4096).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert "copied: 2KiB, " in shown
    assert "copied: 2.93KiB, " in shown
    assert shown.endswith("\r\x1b[K")


def test_progress_is_silent_without_a_terminal() -> None:
    words = [sys.executable, "-c", SHOW]
    done = subprocess.run(words, capture_output=True, check=True, timeout=TIMEOUT)
    assert done.stderr == b""
