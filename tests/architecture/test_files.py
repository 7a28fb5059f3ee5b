"""What the committed files may hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = {".py", ".md", ".toml", ".lock", ".json", ".yml", ".yaml", ".cfg", ".ini", ".sh", ".mako", ""}
CI = ".ci/run"

FORBIDDEN = {
    "the address of a package index": re.compile(
        "--(extra-)?index" + r"-url[ =]|(?:https?|file)://[^\s\"']*/" + r"simple\b|find" + r"-links"
    ),
    "a folder of one machine": re.compile(r"(?<![\w.$}/:-])/(?:" + "ho" + "me|ro" + "ot|Us" + "ers|wo" + r"rk)/\w"),
    "the place of the shared data": re.compile("sha" + "red/da" + "ta"),
}


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    if listed.returncode != 0:
        pytest.skip("not a checkout: git does not know these files")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_holds(what):
    found = []
    for path in committed():
        if path.suffix not in TEXT or (path.relative_to(ROOT).as_posix() == CI and "shared" in what):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if FORBIDDEN[what].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("the address of a package index", "--index" + "-url https://pypi.example"),
        ("the address of a package index", "https://mirror.example/" + "simple/"),
        ("a folder of one machine", '"/ho' + 'me/me/project"'),
        ("a folder of one machine", "cd /ro" + "ot/x"),
        ("the place of the shared data", "../sha" + "red/data"),
    ],
)
def test_the_patterns_see_what_they_look_for(what, line):
    assert FORBIDDEN[what].search(line)


@pytest.mark.parametrize("folder", ["tests", "docs", "docker"])
def test_folders_that_are_no_packages_have_no_init(folder):
    assert list((ROOT / folder).rglob("__init__.py")) == []


def test_ci_script_is_executable_and_is_bash():
    script = ROOT / CI
    assert script.stat().st_mode & 0o111
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text()
