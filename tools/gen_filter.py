"""Write `viscum/guard/filter_ARCH.py`: the default profile with the default capabilities, compiled.

Nearly every machine has this filter; compiling it takes longer than starting the machine.
"""

from __future__ import annotations

import base64
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from viscum.guard import capabilities, profile, seccomp  # noqa: E402

ARCHITECTURES = ("x86_64", "aarch64", "riscv64")
WIDTH = 92


def module(arch: str) -> str:
    """Return the text of the module for one architecture."""
    names = frozenset("CAP_" + name for name in capabilities.DEFAULT)
    program = seccomp.compile_policy(profile.default_rules(names), arch)
    text = base64.b64encode(program).decode()
    lines = [f'    b"{text[at : at + WIDTH]}"' for at in range(0, len(text), WIDTH)]
    return "\n".join(
        [
            f'"""The default filter for {arch}, compiled. Written by tools/gen_filter.py."""',
            "",
            "from __future__ import annotations",
            "",
            "import binascii",
            "",
            "PROGRAM = binascii.a2b_base64(",
            *lines,
            ")",
            "",
        ]
    )


def main() -> None:
    """Write the modules."""
    for arch in ARCHITECTURES:
        (ROOT / "src" / "viscum" / "guard" / f"filter_{arch}.py").write_text(module(arch))


if __name__ == "__main__":
    main()
