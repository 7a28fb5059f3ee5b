"""The checks of doctor."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from pydantic import SecretStr

from app.accounts import Accounts, Passwords
from app.connections import Connections, LabelStudioConnection
from app.doctor import examine, installation, machine, place, servers
from app.jobs import Jobs
from app.signing import Signer
from app.wiring import annotation_server
from engine.catalog.workspace import Workspace
from engine.stages.push import PushConfig, push
from engine.stages.rank import RankConfig, rank


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
        assert checked(workspace.root, "secrets").result == "ok"
        Signer.of(workspace)
        assert checked(workspace.root, "secrets").result == "ok"
        (workspace.root / "secret.key").chmod(0o644)
        found = checked(workspace.root, "secrets")
    assert (found.result, "chmod 600" in found.do) == ("warn", True)


def test_jobs_that_nobody_works_off_are_warned_of_and_no_store_is_made_to_look(tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        assert checked(workspace.root, "jobs").found == "none yet"
        assert not (workspace.root / "jobs.sqlite").exists()
        with Jobs(workspace) as jobs:
            jobs.enqueue("pull", {})
        found = checked(workspace.root, "jobs")
    assert (found.result, found.found, "tilehawk worker" in found.do) == ("warn", "1 to do, no worker", True)


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.mark.guarantee("G44")
@pytest.mark.parametrize(
    ("wanted", "result", "said"),
    [
        (["pydantic>=2.12", "torch>=2.11"], "ok", "2 packages"),
        (["pydantic>=999"], "fail", "pydantic .* is below 999"),
        (["no-such-package>=1"], "fail", "no-such-package is missing"),
        (["no-such-package>=1; sys_platform == 'darwin'"], "ok", "0 packages"),
        (["no-such-package>=1; extra == 'oracle'"], "ok", "0 packages"),
        (["psycopg[binary]>=3.2"], "ok", "1 packages"),
    ],
)
def test_packages_are_held_against_their_floors(wanted, result, said):
    import re

    found = installation.packages(wanted)
    assert (found.result, bool(re.search(said, found.found))) == (result, True), found


@pytest.mark.parametrize(("free", "result"), [(0, "fail"), (5 * 1024**3, "warn"), (50 * 1024**3, "ok")])
def test_room_on_the_disk(tmp_path, free, result):
    assert machine.disk(tmp_path / "not there yet", lambda folder: free).result == result


def test_device_is_named_with_its_bfloat16():
    assert "bf16 is" in machine.device().found


def test_sound_catalog_is_ok_and_a_damaged_one_fails(workspace):
    assert place.database(workspace.root).result == "ok"
    workspace.close()
    catalog = workspace.root / "catalog.sqlite"
    content = bytearray(catalog.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    catalog.write_bytes(bytes(content))
    found = place.database(workspace.root)
    assert (found.result, "backup" in found.do) == ("fail", True)


@pytest.mark.parametrize(("revision", "result", "do"), [("0001", "warn", "brought forward"), ("9999", "fail", "Update Tilehawk")])
def test_catalog_of_another_version_is_told_before_it_is_opened(workspace, revision, result, do):
    workspace.close()
    with closing(sqlite3.connect(workspace.root / "catalog.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    found = place.database(workspace.root)
    assert (found.result, revision in found.found, do in found.do) == (result, True, True)


@pytest.mark.parametrize(("kind", "result"), [("ext4", "ok"), ("nfs4", "warn"), ("cifs", "warn"), ("fuse.sshfs", "warn")])
def test_file_system_over_a_network_is_warned_of(tmp_path, kind, result):
    (tmp_path / "share" / "workspace").mkdir(parents=True)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/share {kind} rw 0 0\nproc /proc proc rw 0 0\n")
    assert place.locks(tmp_path / "share" / "workspace", mounts).result == result
    assert place.locks(tmp_path, mounts).result == "ok"
    assert place.locks(tmp_path, tmp_path / "no such file").result == "ok"


def test_accounts_fit_the_address(workspace, monkeypatch):
    accounts = Accounts(workspace, Passwords(cost=2**4))
    monkeypatch.delenv("TILEHAWK_PUBLIC_URL", raising=False)
    assert place.accounts(workspace.root).result == "ok"
    monkeypatch.setenv("TILEHAWK_PUBLIC_URL", "https://tiles.example.org")
    assert place.accounts(workspace.root).result == "fail"
    accounts.add("anna", "correct horse", "annotator")
    assert "tilehawk users role NAME engineer" in place.accounts(workspace.root).do
    accounts.set_role("anna", "engineer")
    assert place.accounts(workspace.root).result == "ok"
    monkeypatch.setenv("TILEHAWK_PUBLIC_URL", "http://tiles.example.org")
    assert "in the open" in place.accounts(workspace.root).found
    monkeypatch.setenv("TILEHAWK_PUBLIC_URL", "nonsense")
    assert place.accounts(workspace.root).result in {"fail", "warn"}


def test_annotation_server_is_asked_for_all_that_a_round_needs(workspace, fake, monkeypatch):
    monkeypatch.delenv("TILEHAWK_PUBLIC_URL", raising=False)
    assert servers.label_studio(workspace.root).found == "none is connected"
    with fake("label_studio_server").serving() as studio:
        token = fake("label_studio_server").TOKEN
        connection = LabelStudioConnection(url=studio.url, token=SecretStr(token), public_url="http://127.0.0.1:7860")
        Connections(label_studio=connection).save(workspace)
        assert servers.label_studio(workspace.root).result == "ok"
        fake("labelled").fill(workspace, fake("catalog").add_scene)
        fake("labelled").predict(workspace, "found")
        rank(workspace, RankConfig(budget_seconds=1e6))
        push(workspace, annotation_server(workspace), lambda tile: f"http://127.0.0.1:7860/signed/tiles/{tile}.png", PushConfig())
        found = servers.label_studio(workspace.root)
        assert (found.result, "the classes of the workspace" in found.found) == ("ok", True), found
        studio.backends = [{"id": 1, "url": "http://127.0.0.1:7860/label-studio", "state": "DI"}]
        found = servers.label_studio(workspace.root)
        assert (found.result, found.do) == ("warn", "Start the app there")
        studio.backends[0]["state"] = "CO"
        assert "asks this app for suggestions" in servers.label_studio(workspace.root).found
        monkeypatch.setenv("TILEHAWK_PUBLIC_URL", "https://tiles.example.org")
        assert "--public-url" in servers.label_studio(workspace.root).do
        (project,) = studio.projects.values()
        project["label_config"] = "<View/>"
        found = servers.label_studio(workspace.root)
        assert (found.result, "Undo the change there" in found.do) == ("fail", True)
        studio.tokens.clear()
        found = servers.label_studio(workspace.root)
        assert (found.result, bool(found.do), token in str(found)) == ("fail", True, False)
    found = servers.label_studio(workspace.root)
    assert (found.result, bool(found.do), token in str(found)) == ("warn", True, False)
