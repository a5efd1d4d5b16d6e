"""Install a dependency group of pyproject.toml (PEP 735); Debian's pip is too old to."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    """Install the group that the command line names into this environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["dependency-groups"][sys.argv[1]]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True)


if __name__ == "__main__":
    main()
