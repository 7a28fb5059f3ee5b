"""A workspace as one file or folder, and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, select

from engine.catalog import ledger, migrations
from engine.catalog.backups import ARRIVING, HEAD, MANIFEST, SECRET_FILES
from engine.catalog.migrations import REVISIONS
from engine.catalog.models import add_model
from engine.catalog.schema import Base, UserRow
from engine.catalog.summary import summarize
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, TilehawkError, UsageError
from engine.files import atomic_directory, sha256_of
from engine.stages.backup import BackupConfig, back_up
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.predict import PredictConfig, predict
from engine.stages.restore import restore

PASSWORD_HASH = "scrypt$CANARY-of-a-hash"
TOKEN = b"CANARY-of-a-token"


@pytest.fixture
def workspace(tmp_path, write_picture, fake):
    """Two scenes out of an archive, a model with a row, an account, secrets, an upload, and what is half written."""
    pictures = [write_picture(tmp_path / "pictures" / f"{seed}.png", width=96, height=96, seed=seed) for seed in range(2)]
    with tarfile.open(tmp_path / "imagery.tar", "w") as archive:
        for picture in pictures:
            archive.add(picture, picture.name)
    with Workspace.create(tmp_path / "workspace") as made:
        ingest(made, tmp_path / "imagery.tar", IngestConfig(tile=32, overlap=0))
        with made.session() as session:
            add_model(session, name="m", stage="finetune", config={}, data_hash="0" * 64, metrics={"test": {"ap": 0.5}})
            session.add(UserRow(name="anna", password_hash=PASSWORD_HASH, role="manager"))
            ledger.record(session, "before")
        for name in ("models/m/model.safetensors", "models/m/config.json", "uploads/1/a.zip", "reports/r.json", "models/.tmp-x-m/half"):
            path = made.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {name}")
        (made.root / "models" / "link").symlink_to("/etc/passwd")
        for name in SECRET_FILES:
            (made.root / name).write_bytes(TOKEN)
        yield made


def rows(workspace):
    """All rows of all tables."""
    with workspace.session(write=False) as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def files(root):
    """The files below the folders that a backup keeps."""
    kept = ("scenes", "weights", "models", "predictions", "exports", "reports")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in kept
        for path in (root / folder).rglob("*")
        if path.is_file() and not path.is_symlink() and ".tmp-" not in str(path.relative_to(root))
    }


def names(backup):
    if backup.is_dir():
        return {path.relative_to(backup).as_posix() for path in backup.rglob("*") if path.is_file()}
    with tarfile.open(backup) as archive:
        return set(archive.getnames())


@pytest.mark.parametrize("name", ["kept.tar", "kept"])
def test_what_comes_back_equals_what_was_there(workspace, tmp_path, name):
    report = back_up(workspace, tmp_path / "to" / name, BackupConfig(secrets=True))
    back = restore(tmp_path / "to" / name, tmp_path / "back")
    assert (back.files, back.bytes, back.missing_imagery, report.left_out) == (report.files, report.bytes, 0, 0)
    with Workspace.open(tmp_path / "back") as restored:
        assert rows(restored) == rows(workspace)
        assert files(restored.root) == files(workspace.root)
        assert restored.identity == workspace.identity
        before, after = (asdict(summarize(each)) for each in (workspace, restored))
        assert {**after, "workspace": ""} == {**before, "workspace": ""}
        with restored.session() as session:
            ledger.record(session, "after")
    assert [path.name for path in (tmp_path / "to").iterdir()] == [name]


def test_without_being_asked_it_holds_no_secret_and_no_upload(workspace, tmp_path):
    back_up(workspace, tmp_path / "kept.tar")
    assert not names(tmp_path / "kept.tar") & {*SECRET_FILES, "uploads/1/a.zip", "models/.tmp-x-m/half", "models/link"}
    content = (tmp_path / "kept.tar").read_bytes()
    assert TOKEN not in content
    assert b"CANARY" not in content, "no hash of a password either, not in free pages of the catalog"
    report = restore(tmp_path / "kept.tar", tmp_path / "back")
    assert report.accounts_without_password == ["anna"]
    with Workspace.open(tmp_path / "back") as restored, restored.session(write=False) as session:
        account = session.get_one(UserRow, "anna")
        assert (account.role, account.password_hash) == ("manager", "")


def test_secrets_and_uploads_come_on_request_and_stay_private(workspace, tmp_path):
    back_up(workspace, tmp_path / "kept.tar", BackupConfig(secrets=True, uploads=True))
    assert (tmp_path / "kept.tar").stat().st_mode & 0o777 == 0o600
    restore(tmp_path / "kept.tar", tmp_path / "back")
    for name in SECRET_FILES:
        assert (tmp_path / "back" / name).read_bytes() == TOKEN
        assert (tmp_path / "back" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "back" / "uploads" / "1" / "a.zip").is_file()
    with Workspace.open(tmp_path / "back") as restored:
        assert rows(restored)["user_account"][0][1] == PASSWORD_HASH


def test_an_upload_that_is_still_coming_is_left_out(workspace, tmp_path):
    coming = workspace.root / ARRIVING / "2" / "b.zip"
    coming.parent.mkdir(parents=True)
    coming.write_text("half of it")
    (workspace.root / ARRIVING / "2.json").write_text("{}")
    back_up(workspace, tmp_path / "kept.tar", BackupConfig(uploads=True))
    assert {name for name in names(tmp_path / "kept.tar") if name.startswith("uploads/")} == {"uploads/1/a.zip"}


def test_writers_go_on_meanwhile_and_the_copy_is_of_one_moment(workspace, tmp_path):
    def write_on(done, total, message):
        with workspace.session() as session:
            ledger.record(session, "meanwhile")

    back_up(workspace, tmp_path / "kept.tar", progress=write_on)
    restore(tmp_path / "kept.tar", tmp_path / "back")
    with Workspace.open(tmp_path / "back") as restored, restored.session(write=False) as session:
        found = [event.id for event in ledger.events(session)]
    assert found == list(range(1, len(found) + 1))
    with workspace.session(write=False) as session:
        assert len(ledger.events(session)) > len(found)


def test_model_that_is_replaced_while_it_is_read_is_of_one_age(workspace, tmp_path):
    replaced = []

    def replace_once(done, total, message):
        if message.endswith("models") and not replaced:
            replaced.append(done)
            with atomic_directory(workspace.models / "m") as made:
                (made / "model.safetensors").write_text("newer")

    back_up(workspace, tmp_path / "kept.tar", progress=replace_once)
    restore(tmp_path / "kept.tar", tmp_path / "back")
    assert replaced
    assert {path.name: path.read_text() for path in (tmp_path / "back" / "models" / "m").iterdir()} == {"model.safetensors": "newer"}


def test_too_little_room_is_told(workspace, tmp_path):
    with pytest.raises(TilehawkError, match=r"has 0\.00 GB free, and the backup needs 0\.\d\d GB"):
        back_up(workspace, tmp_path / "to" / "kept.tar", free_bytes=lambda folder: 10)
    assert list((tmp_path / "to").iterdir()) == []
    back_up(workspace, tmp_path / "kept.tar")
    with pytest.raises(TilehawkError, match=r"0\.00 GB free at .*, and the workspace needs"):
        restore(tmp_path / "kept.tar", tmp_path / "to" / "back", free_bytes=lambda folder: 10)
    assert list((tmp_path / "to").iterdir()) == []


class CancelAt:
    def __init__(self, call):
        self.left = call

    def __call__(self, done, total, message):
        self.left -= 1
        if not self.left:
            raise Cancelled("stopped by the user")


@pytest.mark.parametrize("call", [1, 3, 7])
@pytest.mark.parametrize("name", ["kept.tar", "kept"])
def test_what_is_stopped_leaves_nothing_and_can_be_done_again(workspace, tmp_path, name, call):
    there = tmp_path / "to"
    with pytest.raises(Cancelled):
        back_up(workspace, there / name, progress=CancelAt(call))
    assert list(there.iterdir()) == []
    back_up(workspace, there / name)
    with pytest.raises(Cancelled):
        restore(there / name, there / "back", progress=CancelAt(call))
    assert [path.name for path in there.iterdir()] == [name]
    restore(there / name, there / "back")


def killed(action, call):
    """Run ``action(progress)`` in a process that is killed at that call of its progress; whether it was."""
    child = os.fork()
    if not child:
        left = [call]

        def progress(done, total, message):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            action(progress)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.guarantee("G2")
@pytest.mark.parametrize("name", ["kept.tar", "kept"])
def test_what_is_killed_leaves_nothing_half_under_its_name_and_is_swept_by_the_next(workspace, tmp_path, name):
    there = tmp_path / "to"
    workspace.close()

    def make(progress):
        with Workspace.open(workspace.root) as opened:
            back_up(opened, there / name, progress=progress)

    kills = 0
    for call in (1, 2, 4, 8):
        kills += killed(make, call)
        assert not (there / name).exists()
    assert kills == 4
    make(lambda done, total, message: None)
    assert [path.name for path in there.iterdir()] == [name]
    for call in (1, 2, 4, 8):
        assert killed(lambda progress: restore(there / name, there / "back", progress=progress), call)
        assert not (there / "back").exists()
    restore(there / name, there / "back")
    assert sorted(path.name for path in there.iterdir()) == ["back", name]


def test_taken_name_and_a_place_inside_the_workspace_are_refused(workspace, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there is something at"):
        back_up(workspace, tmp_path / "there")
    with pytest.raises(UsageError, match="in the workspace itself"):
        back_up(workspace, workspace.root / "kept.tar")


def test_folder_with_something_in_it_is_left_alone(workspace, tmp_path):
    back_up(workspace, tmp_path / "kept.tar")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty"):
        restore(tmp_path / "kept.tar", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    restore(tmp_path / "kept.tar", tmp_path / "empty")


def change_a_byte(backup):
    path = next((backup / "scenes").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def lose_a_file(backup):
    next((backup / "scenes").iterdir()).unlink()


def cut_off(backup):
    (backup / MANIFEST).unlink()


def break_the_manifest(backup):
    (backup / MANIFEST).write_text("{")


def newer_schema(backup):
    head = json.loads((backup / HEAD).read_text())
    (backup / HEAD).write_text(json.dumps({**head, "schema": "9999"}))


def newer_format(backup):
    head = json.loads((backup / HEAD).read_text())
    (backup / HEAD).write_text(json.dumps({**head, "format": 2, "more": 1}))


def no_head(backup):
    (backup / HEAD).unlink()


def a_stray_file(backup):
    (backup / "evil.sh").write_text("evil")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (change_a_byte, r"damaged or missing: scenes/"),
        (lose_a_file, r"damaged or missing: scenes/"),
        (cut_off, "was cut off"),
        (break_the_manifest, "manifest of the backup .* is damaged"),
        (newer_schema, "schema 9999.*newer Tilehawk"),
        (newer_format, "format 2.*newer Tilehawk"),
        (no_head, "is no backup"),
        (a_stray_file, "'evil.sh' in the backup"),
    ],
)
def test_backup_that_is_not_whole_or_not_ours_is_refused_and_nothing_is_made(workspace, tmp_path, harm, said):
    back_up(workspace, tmp_path / "kept")
    harm(tmp_path / "kept")
    with pytest.raises(BadInput, match=said):
        restore(tmp_path / "kept", tmp_path / "to" / "back")
    assert not (tmp_path / "to" / "back").exists()


@pytest.mark.guarantee("G12")
@pytest.mark.parametrize("name", ["../evil", "/evil", "scenes/../../evil", "scenes/../../../evil", "catalog.sqlite/../../evil", "."])
def test_name_in_a_backup_never_leads_out(workspace, tmp_path, name):
    back_up(workspace, tmp_path / "kept.tar")
    with tarfile.open(tmp_path / "kept.tar", "a") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, BytesIO(b"evil"))
    with pytest.raises(BadInput):
        restore(tmp_path / "kept.tar", tmp_path / "to" / "back")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.guarantee("G13")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_backup_are_refused(workspace, tmp_path, kind):
    back_up(workspace, tmp_path / "kept.tar")
    with tarfile.open(tmp_path / "kept.tar", "a") as archive:
        member = tarfile.TarInfo("scenes/x")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(BadInput, match="no regular file"):
        restore(tmp_path / "kept.tar", tmp_path / "back")


@pytest.mark.parametrize("there", ["nothing", "a text", "a folder"])
def test_what_is_no_backup_is_named(tmp_path, there):
    place = tmp_path / "place"
    {"nothing": lambda: None, "a text": lambda: place.write_text("text"), "a folder": place.mkdir}[there]()
    with pytest.raises(BadInput, match="place is no backup"):
        restore(place, tmp_path / "back")


def upgraded(path, revision):
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@pytest.mark.guarantee("G33")
def test_older_backup_is_brought_forward(workspace, tmp_path):
    back_up(workspace, tmp_path / "kept")
    catalog = tmp_path / "kept" / "catalog.sqlite"
    catalog.unlink()
    upgraded(catalog, REVISIONS[0])
    with closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("INSERT INTO ledger (at, kind, details) VALUES (1.0, 'old', '{}')")
    head = json.loads((tmp_path / "kept" / HEAD).read_text())
    (tmp_path / "kept" / HEAD).write_text(json.dumps({**head, "schema": REVISIONS[0]}))
    manifest = json.loads((tmp_path / "kept" / MANIFEST).read_text())
    manifest["files"]["catalog.sqlite"] = {"sha256": sha256_of(catalog), "bytes": catalog.stat().st_size}
    (tmp_path / "kept" / MANIFEST).write_text(json.dumps(manifest))
    restore(tmp_path / "kept", tmp_path / "back")
    with Workspace.open(tmp_path / "back") as restored, restored.session(write=False) as session:
        assert [event.kind for event in ledger.events(session)] == ["old"]


def test_imagery_outside_is_counted_and_missed_where_it_is_not_there(tmp_path, write_picture):
    write_picture(tmp_path / "pictures" / "a.png", width=96, height=96)
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "pictures", IngestConfig(tile=32, overlap=0))
        assert back_up(workspace, tmp_path / "kept.tar").left_out == 1
    assert restore(tmp_path / "kept.tar", tmp_path / "here").missing_imagery == 0
    shutil.rmtree(tmp_path / "pictures")
    assert restore(tmp_path / "kept.tar", tmp_path / "there").missing_imagery == 1


def test_model_that_came_back_predicts_the_same(learned, tmp_path):
    back_up(learned.workspace, tmp_path / "kept.tar")
    restore(tmp_path / "kept.tar", tmp_path / "back")
    config = PredictConfig(split="test", name="once-more", threads=1)
    with Workspace.open(tmp_path / "back") as restored:
        predict(learned.workspace, config)
        predict(restored, config)
        for name in ("detections.parquet", "embeddings.npy"):
            ours, theirs = (each.predictions / "once-more" / name for each in (learned.workspace, restored))
            assert ours.read_bytes() == theirs.read_bytes()
