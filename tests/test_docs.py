"""The documentation says what the code does: commands run, options, names and links exist.

A fenced block of a page is run as its language says: `sh` by bash, `console` command by command
with its output compared, `python` by Python; a `text` block right after a `python` one is what it
prints. `…` stands for anything. The blocks of a page are run in order in one folder. Before a
block may stand `<!-- run: as=user needs=memory,pids -->` or `<!-- not run: why -->`.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

import callers
import needs
import viscum
from viscum.cli.parser import parse
from viscum.cli.table import commands, find
from viscum.oci.words import GLOBAL, VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT = 30
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REFERENCE = ROOT / "docs" / "reference"
RUN_LANGUAGES = ("sh", "console", "python")
FENCE = re.compile(r"^```(\S*)\s*$")
MARKER = re.compile(r"^<!-- (run|not run): (.*) -->$")
FOLDERS = tuple(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
HERE = callers.Caller("here", [], os.geteuid(), os.path.expanduser("~"))
USER_NEEDS = ("subuid", "userns", "namespace-tools")


class Block(NamedTuple):
    """A fenced block: where it stands, its language and text, and what is said about running it."""

    line: int
    language: str
    text: str
    skipped: bool
    settings: dict[str, str]

    @property
    def needs(self) -> list[str]:
        wanted = self.settings.get("needs", "").split(",") if "needs" in self.settings else []
        return [*wanted, *(USER_NEEDS if self.as_user else ())]

    @property
    def as_user(self) -> bool:
        return self.settings.get("as") == "user"


def relative(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: pathlib.Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    marker, language, start, kept = None, None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if language is not None and not (fence and not fence[1]):
            kept.append(line)
        elif language is not None:
            words = shlex.split(marker[2]) if marker and marker[1] == "run" else []
            settings = dict(word.split("=", 1) for word in words)
            skipped = marker is not None and marker[1] == "not run"
            yield Block(start, language, "\n".join(kept), skipped, settings)
            marker, language, kept = None, None, []
        elif fence:
            language, start = fence[1], number
        elif line.strip():
            marker = MARKER.match(line)


def prose(page: pathlib.Path) -> str:
    """Return a page without its blocks, with as many lines."""
    lines, inside = [], False
    for line in page.read_text().splitlines():
        fence = FENCE.match(line)
        lines.append("" if fence or inside else line)
        inside = inside != bool(fence)
    return "\n".join(lines)


def code_spans(page: pathlib.Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def expected(text: str) -> re.Pattern[str]:
    """Return what output must match: `…` is anything, alone on a line any lines."""
    parts = []
    for line in text.strip().splitlines():
        pattern = ".*".join(re.escape(part.rstrip()) for part in line.rstrip().split("…"))
        parts.append(r"(?:.*\n)*?" if line.strip() == "…" else rf"{pattern}[ \t]*\n")
    return re.compile("".join(parts) + r"\s*\Z")


# Every block is run.


class Session:
    """Runs the blocks of one page in one folder, each as the user it asks for."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        folder.chmod(0o777)

    def environment(self, caller: callers.Caller) -> dict[str, str]:
        home = self.folder / f"home-{caller.uid}"
        own = self.folder / "bin"
        if not home.exists():
            home.mkdir()
            os.chown(home, caller.uid, -1)
        scripts = os.path.dirname(callers.script("viscum"))
        if not caller.here:
            own.mkdir(exist_ok=True)
            python = " ".join(callers.python_words(False))
            (own / "viscum").write_text(f'#!/bin/sh\nexec {python} -m viscum "$@"\n')
            (own / "viscum").chmod(0o755)
            scripts = str(own)
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        paths = f"{scripts}:{system}"
        state = {"VISCUM_DATA": f"{home}/data", "VISCUM_RUN": f"{home}/run"}
        own = {"PATH": paths, "HOME": str(home), "LANG": "C.UTF-8", **state}
        return {**caller.environment(), **own}

    def close(self) -> None:
        """Remove what a page has left running."""
        for home in self.folder.glob("home-*"):
            if (home / "data" / "machines").exists():
                uid = int(home.name.removeprefix("home-"))
                own = os.geteuid() == uid
                caller = HERE if own else callers.make_caller("subids")
                self.call(["viscum", "rm", "--force", "--all"], caller)

    def call(self, words: list[str], caller: callers.Caller) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            caller.command(*words),
            cwd=self.folder,
            env=self.environment(caller),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            text=True,
            check=False,
        )

    def run(self, block: Block, output: str | None, caller: callers.Caller) -> None:
        if block.language == "console":
            self.console(block, caller)
            return
        words = ["bash", "-euo", "pipefail", "-c", block.text]
        if block.language == "python":
            words = [*callers.python_words(caller.here), "-c", block.text]
        done = self.call(words, caller)
        assert done.returncode == 0, done.stdout
        if output is not None:
            assert expected(output).match(done.stdout), done.stdout

    def console(self, block: Block, caller: callers.Caller) -> None:
        """Run the lines after `$ ` in one shell and compare what each of them prints."""
        steps: list[list[str]] = []
        for line in block.text.splitlines():
            if line.startswith("$ "):
                steps.append([line[2:], ""])
            elif line.startswith("> ") and not steps[-1][1]:
                steps[-1][0] += "\n" + line[2:]
            else:
                steps[-1][1] += line + "\n"
        mark = "=== next ==="
        script = [f"{{ {step[0]}\n}} 2>&1; s=$?; echo; echo '{mark}'; (exit $s)" for step in steps]
        done = self.call(["bash", "-c", "\n".join(script)], caller)
        outputs = done.stdout.split(f"\n{mark}\n")
        for (command, text), printed in zip(steps, outputs, strict=False):
            shown = printed.strip("\n") + "\n"
            assert expected(text).match(shown), f"$ {command}\n{shown}"
        assert len(outputs) == len(steps) + 1, done.stdout


def lacking(block: Block) -> bool:
    """Whether this host lacks what a block needs; in CI that must be expected."""
    missing = {name for name in block.needs if needs.missing(name)}
    known = set(os.environ.get("VISCUM_MISSING", "").split())
    if missing and os.environ.get("CI") == "true" and not missing <= known:
        pytest.fail(f"line {block.line} needs {', '.join(sorted(missing))}")
    return bool(missing)


def followed(page: pathlib.Path) -> Iterator[tuple[Block, str | None]]:
    """Yield each block that is run, and the text that follows a Python one at once."""
    found = list(blocks(page))
    lines = page.read_text().splitlines()
    for block, after in zip(found, [*found, None][1:], strict=True):
        if block.skipped or block.language not in RUN_LANGUAGES:
            continue
        end = block.line + block.text.count("\n") + 2
        near = after is not None and not "".join(lines[end : after.line - 1]).strip()
        told = near and after is not None and after.language == "text"
        yield block, after.text if told and block.language == "python" else None


def run_pages() -> list[pathlib.Path]:
    """Return the pages with something to run; the Chinese README has the English one's blocks."""
    return [page for page in PAGES if page.name != "README.zh-CN.md" and list(followed(page))]


@needs.needs("userns")
@pytest.mark.parametrize("page", run_pages(), ids=relative)
def test_docs_run(page: pathlib.Path, folder: pathlib.Path) -> None:
    session = Session(folder)
    try:
        for block, output in followed(page):
            if lacking(block):
                continue
            caller = callers.make_caller("subids") if block.as_user else HERE
            try:
                session.run(block, output, caller)
            except AssertionError as error:
                raise AssertionError(f"{relative(page)}:{block.line}: {error}") from None
    finally:
        session.close()


def command_lines(page: pathlib.Path) -> Iterator[str]:
    """Yield the command lines of a page that are shown and not run."""
    for block in blocks(page):
        if block.skipped and block.language in ("sh", "console"):
            lines = block.text.replace("\\\n", " ").splitlines()
            console = block.language == "console"
            yield from (
                line[2:] if console else line for line in lines if line[:2] == "$ " or not console
            )


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_docs_commands_not_run_are_known(page: pathlib.Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in command_lines(page):
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, line
        if "viscum" in words:
            found = find(words[words.index("viscum") + 1 :])
            assert found, line
            parse(*found)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_docs_blocks_have_a_language(page: pathlib.Path) -> None:
    for block in blocks(page):
        assert block.language, f"line {block.line}"
        assert set(block.settings) <= {"as", "needs"}, f"line {block.line}"
        assert set(block.needs) <= set(needs.CHECKS), f"line {block.line}"


# What is named exists.


def test_docs_reference_is_up_to_date() -> None:
    words = [sys.executable, str(ROOT / "tools" / "gen_reference.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docs_reference_has_every_option() -> None:
    told = set(code_spans(REFERENCE / "cli.md"))
    flags = {
        flag
        for command in commands().values()
        for option in command.options
        for flag in option.flags
    }
    assert flags <= told


OCI_FLAGS = {
    f"--{re.split('[=,]', word)[0]}"
    for words in (GLOBAL, *(verb.options for verb in VERBS.values()))
    for word in words
}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_docs_options_exist(page: pathlib.Path) -> None:
    flags = {
        flag
        for command in commands().values()
        for option in command.options
        for flag in option.flags
    }
    flags |= OCI_FLAGS
    for span in code_spans(page):
        if re.match("--.", span):
            assert re.split(r"[ =]", span)[0] in flags, span


def test_docs_reference_has_every_public_name() -> None:
    headings = re.findall(r"^### (.+)$", (REFERENCE / "python.md").read_text(), re.MULTILINE)
    assert set(viscum.__all__) == {heading.replace("\\", "") for heading in headings}


def anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors that the headings of a page make."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_docs_links_resolve(page: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_docs_paths_exist(page: pathlib.Path) -> None:
    for span in code_spans(page):
        path, _, _ = span.partition("::")
        if path.partition("/")[0] in FOLDERS and "/" in path:
            assert (ROOT / path.split(" ")[0]).exists(), span


def names_of_tests(path: pathlib.Path) -> set[str]:
    """Return the names of the tests in a file of Python or C."""
    return set(re.findall(r"^(?:def|static void) (test_\w+)\(", path.read_text(), re.MULTILINE))


def test_docs_specification_names_tests_that_exist() -> None:
    named = [span for span in code_spans(ROOT / "SPECIFICATION.md") if "::" in span]
    assert named
    for span in named:
        path, _, name = span.partition("::")
        known = names_of_tests(ROOT / path)
        wanted = name.rstrip("*")
        matches = [
            test for test in known if test == name or (wanted != name and test.startswith(wanted))
        ]
        assert matches, span


def test_docs_readmes_show_the_same_commands() -> None:
    english, chinese = (
        [(block.language, block.text, block.skipped) for block in blocks(ROOT / name)]
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese


def test_docs_readmes_have_the_same_shape() -> None:
    shapes = [
        [line.split(" ")[0] for line in prose(ROOT / name).splitlines() if line[:1] in "#|-"]
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert shapes[0] == shapes[1]
