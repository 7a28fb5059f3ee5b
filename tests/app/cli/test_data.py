"""init and status."""

from __future__ import annotations

import pytest


@pytest.fixture
def workspace(tilehawk, tmp_path):
    assert tilehawk("init", tmp_path / "workspace").code == 0
    return tmp_path / "workspace"


def test_init_makes_a_workspace_that_status_opens(tilehawk, workspace):
    document = tilehawk("status", "--workspace", workspace, "--json").document
    assert document["workspace"] == str(workspace)
    assert document["tiles"] == {"train": 0, "dev": 0, "test": 0, "none": 0}


def test_init_again_opens_the_same(tilehawk, workspace):
    typed = tilehawk("init", workspace, "--json")
    assert typed.code == 0
    assert typed.document["workspace"] == str(workspace)


def test_init_without_a_folder_takes_the_current_one(tilehawk, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert tilehawk("init").code == 0
    assert tilehawk("status").code == 0


def test_init_refuses_a_folder_of_something_else(tilehawk, tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.txt").write_text("mine")
    typed = tilehawk("init", tmp_path / "photographs")
    assert typed.code == 3
    assert [path.name for path in (tmp_path / "photographs").iterdir()] == ["a.txt"]


def test_models_of_a_new_workspace_is_an_empty_list(tilehawk, workspace):
    assert tilehawk("models", "--workspace", workspace, "--json").document == {"models": []}
