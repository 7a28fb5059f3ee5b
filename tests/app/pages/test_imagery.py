"""What the imagery page does, without a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.pages import imagery
from app.settings import Settings
from engine.catalog.annotations import mark_reviewed
from engine.catalog.tiles import tiles
from engine.errors import BadInput, UsageError


@pytest.fixture
def actions(context):
    return imagery.Actions(context)


def test_an_upload_is_moved_where_its_job_finds_it_and_queued(context, actions, tmp_path):
    uploaded = tmp_path / "cache" / "flight.zip"
    uploaded.parent.mkdir()
    uploaded.write_bytes(b"PK")
    cleared, path, news = actions.take_in(str(uploaded), "", 320, 64)
    (job,) = context.jobs.queued
    assert (job.verb, job.config) == ("ingest", {"tile": 320, "overlap": 64})
    kept = Path(job.inputs["source"])
    assert kept.read_bytes() == b"PK"
    assert kept.is_relative_to(context.workspace.root)
    assert not uploaded.exists()
    assert (cleared, path) == (None, "")
    assert "flight.zip" in news


def test_a_path_on_this_machine_is_taken_as_it_is_by_somebody_on_it(context, actions, tmp_path):
    actions.take_in(None, f" {tmp_path / 'imagery'} ", 320, 64)
    assert context.jobs.queued[0].inputs == {"source": str(tmp_path / "imagery")}


@pytest.mark.parametrize("path", ["/etc", "{allowed}/../secret.zip", "{allowed}-beside/a.zip", "{allowed}/link.zip"])
def test_from_elsewhere_only_the_folders_set_for_it_may_be_named(context, tmp_path, path):
    allowed = tmp_path / "flights"
    allowed.mkdir()
    (allowed / "link.zip").symlink_to("/etc/passwd")
    remote = replace(context, local=False, settings=Settings(import_folders=(allowed,)))
    with pytest.raises(BadInput, match="outside the folders"):
        imagery.Actions(remote).take_in(None, path.format(allowed=allowed), 320, 64)
    imagery.Actions(remote).take_in(None, str(allowed / "a.zip"), 320, 64)
    assert [job.inputs["source"] for job in context.jobs.queued] == [str(allowed / "a.zip")]


@pytest.mark.parametrize(("upload", "path", "found"), [(None, "  ", "nothing to take in"), ("/a.zip", "/b.zip", "an upload and a path")])
def test_one_source_it_must_be(context, actions, upload, path, found):
    with pytest.raises(UsageError, match=found):
        actions.take_in(upload, path, 320, 64)
    assert context.jobs.queued == []


def test_labels_are_queued_with_what_becomes_of_them(context, actions, tmp_path):
    file = tmp_path / "labels.json"
    file.write_text("{}")
    actions.bring_labels(str(file), True)
    (job,) = context.jobs.queued
    assert (job.verb, job.config) == ("labels-import", {"withhold": True})
    assert Path(job.inputs["file"]).read_text() == "{}"
    with pytest.raises(UsageError, match="no label file"):
        actions.bring_labels(None, False)


def test_tiles_come_page_by_page_under_a_filter(context, actions, monkeypatch):
    monkeypatch.setattr(imagery, "TILES_A_PAGE", 5)
    with context.workspace.session() as session:
        train, every = tiles(session, split="train"), tiles(session)
        mark_reviewed(session, [train[0].id], by="ana")
    number, pictures, _ = actions.show(2, imagery.EVERY_SPLIT, "all")
    assert number == 2
    assert f"Page 2 of {-(-len(every) // 5)}, {len(every)} tiles" in pictures
    assert [f"/tiles/{tile.id}.png?width=128" in pictures for tile in every[:10]] == [False] * 5 + [True] * 5
    assert actions.show(999, imagery.EVERY_SPLIT, "all")[0] == -(-len(every) // 5), "brought into range"
    assert actions.show(None, "train", "looked at")[1].count("<img") == 1
    assert f"{len(train) - 1} tiles" in actions.show(1, "train", "not yet")[1]
    assert "No tile of this kind" in actions.show(1, "dev", "looked at")[1]
