"""Which workspace a call works on."""

from __future__ import annotations

import pytest

from app.settings import find_workspace


@pytest.fixture
def nested(tmp_path):
    inner = tmp_path / "workspace" / "scenes" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "workspace" / "tilehawk.json").write_text("{}")
    return inner


def test_option_comes_first(nested, tmp_path):
    assert find_workspace(tmp_path / "x", environment={"TILEHAWK_WORKSPACE": "y"}, current=nested) == tmp_path / "x"


def test_environment_comes_second(nested, tmp_path):
    assert find_workspace(None, environment={"TILEHAWK_WORKSPACE": str(tmp_path / "y")}, current=nested) == tmp_path / "y"


@pytest.mark.parametrize("environment", [{}, {"TILEHAWK_WORKSPACE": ""}])
def test_nearest_parent_that_is_a_workspace_comes_third(nested, tmp_path, environment):
    assert find_workspace(None, environment=environment, current=nested) == tmp_path / "workspace"


def test_current_folder_comes_last(tmp_path):
    assert find_workspace(None, environment={}, current=tmp_path) == tmp_path.resolve()
