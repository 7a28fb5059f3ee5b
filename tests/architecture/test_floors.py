"""The oldest versions that are allowed, and those that are installed by the lock: none below the list in docs/security.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

pytestmark = pytest.mark.guarantee("G44")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROW = re.compile(r"^\| `([a-z0-9-]+)` \| ([0-9.]+) \| (.+) \|$", re.MULTILINE)
LEAST = {"torch": "2.11", "gradio": "6.16", "pillow": "12", "label-studio-sdk": "2.1.2", "rasterio": "1.4.4", "fastapi": "0.120"}
"""What must hold whatever the page says."""


def listed() -> dict[str, Version]:
    """The list of docs/security.md."""
    return {name: Version(version) for name, version, _ in ROW.findall((ROOT / "docs" / "security.md").read_text())}


def floors() -> dict[str, Version]:
    """The least version of each dependency that pyproject.toml allows."""
    found = {}
    for written in PROJECT["dependencies"]:
        requirement = Requirement(written)
        found[requirement.name] = next(Version(each.version) for each in requirement.specifier if each.operator in {">=", "=="})
    return found


def locked() -> dict[str, Version]:
    """The versions that are installed."""
    return {
        name: Version(version) for name, version in re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.M)
    }


def test_list_names_what_must_not_be_older():
    for name, version in LEAST.items():
        assert listed()[name] >= Version(version), name


@pytest.mark.parametrize("name", sorted(listed()))
def test_nothing_older_than_the_list_is_allowed_or_installed(name):
    assert name in floors() or name in locked()
    if name in floors():
        assert floors()[name] >= listed()[name], "pyproject.toml allows an older one"
    if name in locked():
        assert locked()[name] >= listed()[name], "requirements.lock installs an older one"


def test_every_direct_dependency_has_a_least_version_and_the_lock_reaches_it():
    assert len(floors()) == len(PROJECT["dependencies"])
    for name, least in floors().items():
        if name in locked():
            assert locked()[name] >= least, name


def test_python_floor_is_the_one_that_is_advised():
    from app.doctor import ADVISED_PYTHON

    assert PROJECT["requires-python"].startswith(">=3.11")
    assert ADVISED_PYTHON == (3, 11, 13)
