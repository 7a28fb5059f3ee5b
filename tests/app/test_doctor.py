"""The checks of doctor."""

from __future__ import annotations

import pytest

from app.doctor import examine
from app.jobs import Jobs
from app.signing import Signer
from engine.catalog.workspace import Workspace


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


def checked(root, name):
    return next(check for check in examine(root) if check.name == name)


def test_secret_that_others_can_read_is_warned_of(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        assert checked(workspace.root, "secret").result == "ok"
        Signer.of(workspace)
        assert checked(workspace.root, "secret").result == "ok"
        (workspace.root / "secret.key").chmod(0o644)
        found = checked(workspace.root, "secret")
    assert (found.result, "chmod 600" in found.do) == ("warn", True)


def test_jobs_that_nobody_works_off_are_warned_of_and_no_store_is_made_to_look(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        assert checked(workspace.root, "jobs").found == "none yet"
        assert not (workspace.root / "jobs.sqlite").exists()
        with Jobs(workspace) as jobs:
            jobs.enqueue("pull", {})
        found = checked(workspace.root, "jobs")
    assert (found.result, found.found, "tilehawk worker" in found.do) == ("warn", "1 to do, no worker", True)
