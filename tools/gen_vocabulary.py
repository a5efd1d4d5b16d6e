"""Write `native/vocabulary.h` from the vocabulary in `viscum.plan`."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from viscum import plan  # noqa: E402


def header() -> str:
    """Return the text of the header."""
    lines = [
        "/* Generated from src/viscum/plan.py by tools/gen_vocabulary.py. Do not edit. */",
        "/* clang-format off */",
        "#ifndef VISCUM_VOCABULARY_H",
        "#define VISCUM_VOCABULARY_H",
        "",
        f'#define VS_MAGIC "{plan.MAGIC.decode()}"',
        f"#define VS_VERSION {plan.VERSION}",
        f"#define VS_HEADER_SIZE {plan.HEADER_SIZE}",
        f"#define VS_RECORD_SIZE {plan.RECORD_SIZE}",
        f"#define VS_MAX_OPERATIONS {plan.MAX_OPERATIONS}",
        f"#define VS_MAX_TABLE {plan.MAX_TABLE}",
        f"#define VS_SLOTS {plan.SLOTS}",
        f"#define VS_NONE {plan.NONE}",
        f"#define VS_PARAMETER_BIT {plan.PARAMETER_BIT:#x}u",
        f"#define VS_PARAMETERS {len(plan.PARAMETERS)}",
        "",
        "enum vs_section {",
        *(f"    VS_{name.upper()} = {index}," for index, name in enumerate(plan.SECTIONS)),
        f"    VS_SECTIONS = {len(plan.SECTIONS)},",
        "};",
        "",
        "/* X(code, identifier, name, section, kinds of its arguments) */",
        "#define VS_VOCABULARY(X) \\",
    ]
    rows = []
    for verb in plan.VERBS.values():
        identifier = verb.name.replace("-", "_")
        kinds = "".join(kind[0] for kind in verb.kinds)
        section = plan.SECTIONS[verb.section].upper()
        rows.append(f'    X({verb.code}, {identifier}, "{verb.name}", VS_{section}, "{kinds}")')
    return "\n".join([*lines, " \\\n".join(rows), "", "#endif", ""])


if __name__ == "__main__":
    (ROOT / "native" / "vocabulary.h").write_text(header())
