"""The checks of doctor."""

from __future__ import annotations

import pytest

from app.doctor import examine


@pytest.fixture(scope="module")
def without_workspace(tmp_path_factory):
    return {check.name: check for check in examine(tmp_path_factory.mktemp("empty") / "nothing here")}


def test_installation_of_these_tests_passes(without_workspace):
    assert [check for check in without_workspace.values() if check.result == "fail"] == []
    assert without_workspace["torch"].result == without_workspace["packaged weights"].result == "ok"


def test_whatever_is_not_ok_says_what_to_do(without_workspace):
    assert without_workspace["workspace"].result == "warn"
    assert all(check.do for check in without_workspace.values() if check.result != "ok")


def test_damaged_workspace_fails_and_ends_with_1(tilehawk, tmp_path):
    (tmp_path / "tilehawk.json").write_text("not json")
    typed = tilehawk("doctor", "--workspace", tmp_path, "--json")
    assert typed.code == 1
    checks = {check["name"]: check for check in typed.document["checks"]}
    assert checks["workspace"]["result"] == "fail"
    assert checks["python"]["result"] in {"ok", "warn"}
