import zipfile
from pathlib import Path

import pytest

from app.workflows.tidy import remove_upload
from app.workflows.verbs import DirectSteps, verb_named
from engine.catalog.workspace import Workspace
from engine.errors import ArchiveRefused
from engine.progress import silent


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


def uploaded(workspace, name, content=b"no image"):
    file = workspace.uploads / "0123" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


def take_in(workspace, source):
    verb = verb_named("ingest")
    return verb.run(DirectSteps(workspace, silent), verb.config_class(), {"source": str(source)})


def test_an_upload_is_removed_once_and_nothing_beside_it(workspace):
    file = uploaded(workspace, "a.zip")
    other = workspace.uploads / "4567"
    other.mkdir()
    assert remove_upload(workspace, file)
    assert list(workspace.uploads.iterdir()) == [other]
    assert not remove_upload(workspace, file)


@pytest.mark.parametrize(
    "place", ["elsewhere.zip", "workspace/uploads/a.zip", "workspace/scenes/a/b.zip", "workspace/uploads/arriving/1/a.zip"]
)
def test_what_is_no_upload_stays(workspace, tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    assert not remove_upload(workspace, file)
    assert file.exists()


def test_a_folder_inside_an_upload_is_none_and_neither_is_what_lies_there_by_itself(workspace, monkeypatch):
    file = uploaded(workspace, "photos/a.png")
    assert not remove_upload(workspace, file.parent)
    assert not remove_upload(workspace, file)
    (workspace.uploads / "big.zip").write_bytes(b"x")
    monkeypatch.chdir(workspace.uploads)
    assert not remove_upload(workspace, Path("big.zip"))
    assert file.exists()
    assert (workspace.uploads / "big.zip").exists()


def test_an_upload_of_which_something_was_set_aside_stays(workspace, write_picture, tmp_path):
    write_picture(tmp_path / "a.png", width=320, height=320)
    file = uploaded(workspace, "a.zip")
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
        archive.writestr("inner.zip", b"PK")
    report = take_in(workspace, file)
    assert [entry.name for entry in report.set_aside] == ["inner.zip"]
    assert file.exists()


def test_an_archive_that_was_taken_in_is_not_kept_twice(workspace, write_picture):
    file = uploaded(workspace, "a.png")
    write_picture(file, width=320, height=320)
    assert take_in(workspace, file).scenes_added == 1
    assert list(workspace.uploads.iterdir()) == []
    assert len(list(workspace.scenes.iterdir())) == 1


def test_an_archive_on_the_server_stays(workspace, write_picture, tmp_path):
    write_picture(tmp_path / "a.png", width=320, height=320)
    take_in(workspace, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_an_upload_that_is_refused_stays(workspace):
    file = uploaded(workspace, "a.zip")
    with pytest.raises(ArchiveRefused):
        take_in(workspace, file)
    assert file.exists()
