"""What the imagery page does, without a browser."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from app.announcements import Announcement, UploadLimits
from app.arrivals import Arrivals
from app.pages import imagery
from app.settings import Settings
from app.workflows.verbs import verb_named
from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation
from engine.catalog.tiles import tiles
from engine.errors import BadInput, UsageError


@pytest.fixture
def actions(context):
    return imagery.Actions(context)


def arrived(context, name, content, purpose="imagery"):
    """The id of an upload of which all is here."""
    arrivals = Arrivals(context.workspace, UploadLimits.of(context.settings))
    made = arrivals.begin(Announcement(name=name, size=len(content), fingerprint="0" * 8, purpose=purpose), "local")
    return arrivals.append(made.id, "local", 0, content, zlib.crc32(content)).id


def test_an_upload_is_moved_where_its_job_finds_it_and_queued(context, actions):
    path, news = actions.take_in("", 320, 64, arrived(context, "flight.zip", b"PK"))
    (job,) = context.jobs.queued
    assert (job.verb, job.config) == ("ingest", {"tile": 320, "overlap": 64})
    kept = Path(job.inputs["source"])
    assert kept.read_bytes() == b"PK"
    assert kept.parent.parent == context.workspace.uploads
    assert path == ""
    assert "flight.zip" in news


@pytest.mark.parametrize(("side", "overlap"), [(320, 320), (5000, 64), (None, 64), (320, None)])
def test_an_upload_stays_where_what_is_asked_of_it_is_impossible(context, actions, monkeypatch, side, overlap):
    upload = arrived(context, "flight.zip", b"PK")
    with monkeypatch.context() as patch:
        patch.setattr(context.jobs, "enqueue", lambda verb, config, *, inputs: verb_named(verb).checked(config, inputs))
        with pytest.raises(UsageError):
            actions.take_in("", side, overlap, upload)
    actions.take_in("", 320, 64, upload)
    assert Path(context.jobs.queued[0].inputs["source"]).read_bytes() == b"PK"


def test_an_upload_that_is_still_coming_is_not_taken(context, actions):
    arrivals = Arrivals(context.workspace, UploadLimits.of(context.settings))
    made = arrivals.begin(Announcement(name="flight.zip", size=10, fingerprint="0" * 8), "local")
    with pytest.raises(BadInput, match="come to 0%"):
        actions.take_in("", 320, 64, made.id)
    assert context.jobs.queued == []


def test_a_path_on_this_machine_is_taken_as_it_is_by_somebody_on_it(context, actions, tmp_path):
    actions.take_in(f" {tmp_path / 'imagery'} ", 320, 64, "")
    assert context.jobs.queued[0].inputs == {"source": str(tmp_path / "imagery")}


@pytest.mark.parametrize("path", ["/etc", "{allowed}/../secret.zip", "{allowed}-beside/a.zip", "{allowed}/link.zip"])
def test_from_elsewhere_only_the_folders_set_for_it_may_be_named(context, tmp_path, path):
    allowed = tmp_path / "flights"
    allowed.mkdir()
    (allowed / "link.zip").symlink_to("/etc/passwd")
    remote = replace(context, local=False, settings=Settings(import_folders=(allowed,)))
    with pytest.raises(BadInput, match="outside the folders"):
        imagery.Actions(remote).take_in(path.format(allowed=allowed), 320, 64, "")
    imagery.Actions(remote).take_in(str(allowed / "a.zip"), 320, 64, "")
    assert [job.inputs["source"] for job in context.jobs.queued] == [str(allowed / "a.zip")]


@pytest.mark.parametrize(("upload", "path", "found"), [("", "  ", "nothing to take in"), ("0" * 32, "/b.zip", "an upload and a path")])
def test_one_source_it_must_be(context, actions, upload, path, found):
    with pytest.raises(UsageError, match=found):
        actions.take_in(path, 320, 64, upload)
    assert context.jobs.queued == []


def test_labels_are_queued_with_what_becomes_of_them(context, actions):
    actions.bring_labels(True, arrived(context, "labels.json", b"{}", "labels"))
    (job,) = context.jobs.queued
    assert (job.verb, job.config) == ("labels-import", {"withhold": True})
    assert Path(job.inputs["file"]).read_text() == "{}"
    with pytest.raises(UsageError, match="no label file"):
        actions.bring_labels(False, "")


def show(
    actions, number=1, *, split=imagery.EVERY_SPLIT, seen="all", scene="", shows=imagery.EVERY_CLASS, round_=imagery.EVERY_ROUND, scenes=1
):
    return actions.show(number, split, seen, scene, shows, round_, scenes)


def test_tiles_come_page_by_page_under_a_filter(context, actions, monkeypatch):
    monkeypatch.setattr(imagery, "TILES_A_PAGE", 5)
    with context.workspace.session() as session:
        train, every = tiles(session, split="train"), tiles(session)
        mark_reviewed(session, [train[0].id], by="ana")
    number, pictures, *_ = show(actions, 2)
    assert number == 2
    assert f"Page 2 of {-(-len(every) // 5)}, {len(every)} tiles" in pictures
    assert [f"/tiles/{tile.id}.png?width=128" in pictures for tile in every[:10]] == [False] * 5 + [True] * 5
    assert show(actions, 999)[0] == -(-len(every) // 5), "brought into range"
    assert show(actions, None, split="train", seen="looked at")[1].count("<img") == 1
    assert f"{len(train) - 1} tiles" in show(actions, split="train", seen="not yet")[1]
    assert "No tile of this kind" in show(actions, split="dev", seen="looked at")[1]


def test_tiles_are_found_by_scene_class_and_round_and_lead_to_their_scene(context, actions):
    with context.workspace.session() as session:
        every = tiles(session)
        set_label_set(session, ["car", "<ship>"])
        window = every[3].window
        box = {"x1": window.x + 4, "y1": window.y + 4, "x2": window.x + 20, "y2": window.y + 20}
        session.add(Annotation(scene_id=every[3].scene_id, label=1, source="test", **box))
        add_round(session, budget_seconds=1.0, strategy="random", seed=0, chosen=[ChosenTile(every[7].id, 1.0, 1.0, {})])
    assert "1 tiles" in show(actions, shows="<ship>")[1]
    assert f"/review?tile={every[3].id}" in show(actions, shows="<ship>")[1]
    assert "No tile of this kind" in show(actions, shows="car")[1]
    assert f"/review?tile={every[7].id}" in show(actions, round_="1")[1]
    one = show(actions, scene="1.PNG")
    assert {tile.scene_name for tile in every if f'/review?tile={tile.id}"' in one[1]} == {"1.png"}
    assert f"/scene?scene={every[-1].scene_id}&amp;tile={every[-1].id}" in one[1]
    assert "1 scenes" in one[3]
    choices = [update["choices"] for update in one[5:]]
    assert choices == [[imagery.EVERY_CLASS, "car", "<ship>"], [imagery.EVERY_ROUND, "1"]]


def test_scenes_are_listed_with_what_is_known_of_them(context, actions, monkeypatch):
    monkeypatch.setattr(imagery, "SCENES_A_PAGE", 1)
    with context.workspace.session() as session:
        every = tiles(session)
        mine = [tile for tile in every if tile.scene_name == "0.png"]
        mark_reviewed(session, [mine[0].id], by="ana")
    _, _, number, scenes, *_ = show(actions, scenes=9)
    assert (number, "Page 2 of 2, 2 scenes" in scenes, "1.png" in scenes) == (2, True, True)
    first = show(actions)[3]
    assert f'<a href="/scene?scene={mine[0].scene_id}">0.png</a>' in first
    assert f"<td>160 × 160</td><td>{len(mine)}</td><td>0</td><td>{1 / len(mine):.0%}</td>" in first
    assert "No scene of this name" in show(actions, scene="%")[3]
