from __future__ import annotations

import importlib

import pytest

from viscum.guard import capabilities, profile, seccomp


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "riscv64"])
def test_precompiled_filter_is_what_the_compiler_makes(arch: str) -> None:
    names = frozenset("CAP_" + name for name in capabilities.DEFAULT)
    made = seccomp.compile_policy(profile.default_rules(names), arch)
    assert made == importlib.import_module(f"viscum.guard.filter_{arch}").PROGRAM
