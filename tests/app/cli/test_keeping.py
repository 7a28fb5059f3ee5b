"""tilehawk backup and restore, as they are typed."""

from __future__ import annotations

import pytest

from app.connections import CONNECTIONS_FILE
from app.signing import SECRET_FILE, Signer
from engine.catalog.backups import SECRET_FILES
from engine.catalog.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        Signer.of(made)
        yield made


def test_workspace_is_kept_and_comes_back(tilehawk, workspace, tmp_path):
    kept = tilehawk("backup", tmp_path / "kept.tar", "--with-secrets", "--workspace", workspace.root, "--json")
    assert (kept.code, kept.document["secrets"], kept.document["left_out"]) == (0, True, 0)
    back = tilehawk("restore", tmp_path / "kept.tar", tmp_path / "back", "--json")
    assert (back.code, back.document["workspace"]) == (0, str(tmp_path / "back"))
    assert (tmp_path / "back" / SECRET_FILE).read_bytes() == (workspace.root / SECRET_FILE).read_bytes()
    assert tilehawk("status", "--workspace", tmp_path / "back").code == 0


def test_refusals_end_with_their_codes(tilehawk, workspace, tmp_path):
    assert tilehawk("backup", workspace.root / "kept.tar", "--workspace", workspace.root).code == 2
    assert tilehawk("restore", tmp_path / "nothing.tar", tmp_path / "back").code == 3
    assert not (tmp_path / "back").exists()


def test_every_file_with_a_secret_is_known_as_one():
    assert set(SECRET_FILES) == {SECRET_FILE, CONNECTIONS_FILE}
