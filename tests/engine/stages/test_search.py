"""``search``: look-alikes on the training ground, kept features, and the same search again."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import delete, select

from engine.boxes import box_iou
from engine.catalog.decisions import decide
from engine.catalog.ledger import events
from engine.catalog.models import add_model, model_directory
from engine.catalog.schema import Annotation, ModelRow, Scene, Tile
from engine.catalog.searches import hits, searches
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.store import save_model
from engine.stages.search import SearchConfig, search
from engine.training.loop import seeded


def add_detector(workspace, squares, name="pretrained", *, stage="pretrain", classes=0, seed=0, **changes):
    with seeded(seed):
        model = Detector(squares.TINY.model_copy(update=changes), classes)
        torch.nn.init.normal_(model.patch_queries.matched.weight)
    labels = LabelSet.of(squares.LABELS.names[:classes]) if classes else LabelSet(())
    save_model(model_directory(workspace, name), model, stage=stage, label_set=labels, metrics={}, provenance={})
    with workspace.session() as session:
        fingerprint = labels.fingerprint if classes else None
        add_model(session, name=name, stage=stage, config={}, data_hash="0", label_set_fingerprint=fingerprint)


@pytest.fixture(scope="module")
def made(squares, fake, tmp_path_factory):
    """Scenes of squares, two of them train ground, and an untrained model: its backbone knows red from green all the same."""
    with Workspace.create(tmp_path_factory.mktemp("search") / "workspace") as workspace:
        squares.fill(workspace, fake("catalog").add_scene)
        add_detector(workspace, squares)
        yield workspace


@pytest.fixture
def workspace(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as opened:
        yield opened


def wanted(workspace, **changes):
    """A search for the first square of the first train tile."""
    with workspace.session(write=False) as session:
        tile = tiles(session, split=changes.pop("split", "train"))[0]
        query = select(Annotation).where(Annotation.scene_id == tile.scene_id).order_by(Annotation.id)
        box = session.scalars(query).first()
    values = {"tile": tile.id, "box": (box.x1, box.y1, box.x2, box.y2), "hits": 5, "patch_size": 32, "threads": 1, "batch_size": 3}
    return SearchConfig.from_mapping(values | changes)


def found_in(workspace, report):
    with workspace.session(write=False) as session:
        return hits(session, report.search)


def in_scene(hit):
    x, y = hit.tile.window.x, hit.tile.window.y
    return [hit.box_tile[0] + x, hit.box_tile[1] + y, hit.box_tile[2] + x, hit.box_tile[3] + y]


def test_hits_lie_on_squares_of_the_same_colour_best_first(workspace):
    report = search(workspace, wanted(workspace))
    found = found_in(workspace, report)
    assert (report.model, report.tiles, report.described, report.hits, report.already_there) == ("pretrained", 4, 4, 5, False)
    assert [hit.position for hit in found] == list(range(5))
    assert all(one.score >= other.score for one, other in itertools.pairwise(found))
    with workspace.session(write=False) as session:
        squares = list(session.scalars(select(Annotation)))
    for hit in found:
        x1, y1, x2, y2 = in_scene(hit)
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        under = [row.label for row in squares if row.scene_id == hit.tile.scene_id and row.x1 < x < row.x2 and row.y1 < y < row.y2]
        assert under == [squares[0].label]


@pytest.mark.parametrize("split", ["train", "test"])
def test_hits_lie_on_train_ground_alone_wherever_the_query_lies(workspace, split):
    found = found_in(workspace, search(workspace, wanted(workspace, split=split, hits=100)))
    assert {hit.tile.split for hit in found} == {"train"}


def test_boxes_lie_in_their_tiles(workspace):
    for hit in found_in(workspace, search(workspace, wanted(workspace, hits=100))):
        x1, y1, x2, y2 = hit.box_tile
        assert 0 <= x1 < x2 <= hit.tile.window.width
        assert 0 <= y1 < y2 <= hit.tile.window.height


def test_neither_the_query_nor_any_object_twice(fake, squares, tmp_path):
    """On tiles that overlap by half, most squares are seen twice."""
    with Workspace.create(tmp_path / "workspace") as workspace:
        pixels, boxes = squares.picture(0, width=128)
        with workspace.session() as session:
            scene, rows = fake("catalog").add_scene(session, "a", width=128, height=64, tile=64, overlap=32, split="train")
            path, tile_id = workspace.root / scene.path, rows[0].id
        squares.Image.fromarray(pixels).save(path, format="TIFF")
        add_detector(workspace, squares)
        box = next(box for box in boxes.xyxy.tolist() if box[2] <= 64)
        report = search(workspace, SearchConfig(tile=tile_id, box=tuple(box), hits=100, patch_size=32, threads=1))
        corners = np.array([box, *(in_scene(hit) for hit in found_in(workspace, report))])
    overlap = box_iou(corners, corners) - np.eye(len(corners))
    assert len(corners) > 3
    assert overlap.max() <= 0.3 + 1e-6


def test_the_same_search_again_is_the_one_that_is_stored(workspace):
    first = search(workspace, wanted(workspace))
    again = search(workspace, wanted(workspace, batch_size=1), progress=lambda *told: pytest.fail("searched again"))
    assert (again.search, again.hits, again.already_there) == (first.search, first.hits, True)
    with workspace.session(write=False) as session:
        assert len(searches(session)) == 1
        assert len(events(session, "search")) == 1


@pytest.mark.parametrize("change", [{"hits": 4}, {"candidates": 50}, {"refined": 0}, {"box": (1.0, 1, 20, 20)}])
def test_another_search_is_another(workspace, change):
    first, other = search(workspace, wanted(workspace)), search(workspace, wanted(workspace, **change))
    assert (first.search, other.already_there) != (other.search, True)


def test_few_candidates_do_not_make_fewer_hits(workspace):
    enough = search(workspace, wanted(workspace, hits=12, candidates=300, refined=0))
    assert search(workspace, wanted(workspace, hits=12, candidates=3, refined=0)).hits > 12 / 2
    assert enough.hits == 12


def test_more_ground_or_other_weights_make_it_another_search(workspace, squares):
    first = search(workspace, wanted(workspace))
    with workspace.session() as session:
        session.get_one(Tile, tiles(session, split="train")[-1].id).split = "none"
    fewer = search(workspace, wanted(workspace))
    add_detector(workspace, squares, seed=1)
    trained = search(workspace, wanted(workspace))
    assert len({first.search, fewer.search, trained.search}) == 3
    assert (fewer.tiles, fewer.described, trained.described) == (3, 0, 3)


def test_features_are_computed_once_a_tile(workspace):
    reports = [search(workspace, wanted(workspace, hits=hits)) for hits in (3, 4)]
    assert [report.described for report in reports] == [4, 0]


@pytest.mark.parametrize("damage", ["cut", "gone", "mixed"])
def test_damaged_features_are_computed_again(workspace, damage):
    first = search(workspace, wanted(workspace, hits=3))
    (shard,) = workspace.predictions.glob("_grids-*/*")
    if damage == "cut":
        (shard / "grids.npy").write_bytes((shard / "grids.npy").read_bytes()[:50])
    elif damage == "gone":
        (shard / "means.npy").unlink()
    else:
        (shard / "tiles.json").write_text('["0"]')
    again = search(workspace, wanted(workspace, hits=4))
    assert (again.described, [hit.score for hit in found_in(workspace, again)][:3]) == (
        4,
        [hit.score for hit in found_in(workspace, first)],
    )


@pytest.mark.parametrize("at", ["describe tiles", "compare tiles", "look closely"])
def test_a_cancel_leaves_no_search_and_the_next_call_finishes(workspace, at):
    def stop(done, total, message):
        if message == at:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        search(workspace, wanted(workspace), progress=stop)
    with workspace.session(write=False) as session:
        assert searches(session) == []
    assert search(workspace, wanted(workspace)).hits == 5


def test_query_slots_add_their_proposals(workspace):
    told = []
    report = search(
        workspace, wanted(workspace, one_shot_tiles=2, refined=0), progress=lambda done, total, message: told.append((message, total))
    )
    assert ("ask the model", 2) in told
    assert report.hits == 5


def test_the_newest_pre_trained_model_is_asked_unless_another_is_named(workspace, squares):
    add_detector(workspace, squares, "tuned", stage="finetune", classes=2)
    assert search(workspace, wanted(workspace)).model == "pretrained"
    assert search(workspace, wanted(workspace, model="tuned")).model == "tuned"
    with workspace.session() as session:
        session.scalars(select(ModelRow).where(ModelRow.name == "pretrained")).one().stage = "finetune"
    assert search(workspace, wanted(workspace)).model == "tuned"
    with pytest.raises(BadInput, match="no trained model named 'x'"):
        search(workspace, wanted(workspace, model="x"))


def test_a_yes_to_a_hit_is_an_annotation_where_the_hit_lies(workspace):
    report = search(workspace, wanted(workspace))
    first = found_in(workspace, report)[0]
    with workspace.session() as session:
        session.execute(delete(Annotation))
        hit = decide(session, first.id, accept=True, label=1, annotator="ana")
        made = session.get_one(Annotation, hit.annotation_id)
        scene = session.get_one(Scene, first.tile.scene_id)
    assert [made.x1, made.y1, made.x2, made.y2] == pytest.approx(in_scene(first))
    assert made.x2 <= scene.width
    assert (made.source, made.state, made.label) == ("search", "accepted", 1)


@pytest.mark.parametrize("box", [(64.0, 0, 80, 20), (-30.0, -30, 2, 2), (0.0, 0, 20, 66), (-1.5, 0, 20, 20)])
def test_a_box_outside_its_tile_is_refused(workspace, box):
    with pytest.raises(BadInput, match=r"reaches out of tile .* expected x from 0 to 64"):
        search(workspace, wanted(workspace, box=box))


def test_an_edge_a_hair_outside_of_the_tile_lies_on_its_border(workspace):
    assert search(workspace, wanted(workspace, box=(-0.5, 0, 20, 64.4))).hits


@pytest.mark.parametrize("changes", [{"box": (5, 5, 5, 9)}, {"tile": 0}, {"hits": 0}, {"boxes": 1}])
def test_impossible_configurations_are_refused(workspace, changes):
    with pytest.raises(UsageError):
        wanted(workspace, **changes)


def test_nothing_to_search(workspace, tmp_path):
    with pytest.raises(BadInput, match="no tile 999"):
        search(workspace, wanted(workspace, tile=999))
    config = wanted(workspace, split="test")
    with workspace.session() as session:
        for row in session.scalars(select(Tile).where(Tile.split == "train")):
            row.split = "none"
    with pytest.raises(NothingToDo, match="training ground"):
        search(workspace, config)
    with Workspace.create(tmp_path / "empty") as empty, pytest.raises(BadInput, match="no trained model"):
        search(empty, config)


def messages(workspace, config):
    told = []
    report = search(workspace, config, progress=lambda done, total, message: told.append((message, total)))
    return report, dict(told)


def test_a_model_that_was_taught_to_be_asked_is_asked_on_promising_tiles(workspace, squares):
    add_detector(workspace, squares, "asked", stage="one-shot", classes=1, one_shot=True)
    report, told = messages(workspace, wanted(workspace, refined=0, hits=40))
    assert report.model == "asked"
    assert told["ask the model"] == 4
    found = found_in(workspace, report)
    assert max(hit.score for hit in found) > min(hit.score for hit in found)
    assert all(hit.box_tile[2] > hit.box_tile[0] and hit.box_tile[3] > hit.box_tile[1] for hit in found)
    _, quiet = messages(workspace, wanted(workspace, refined=0, hits=40, one_shot_tiles=0))
    assert "ask the model" not in quiet


def test_slots_are_not_asked_by_themselves(workspace):
    _, told = messages(workspace, wanted(workspace, refined=0))
    assert "ask the model" not in told


def test_the_query_and_its_hits_are_pictured(workspace):
    report = search(workspace, wanted(workspace))
    with Image.open(workspace.root / report.picture) as sheet:
        assert sheet.size == (6 * 168 + 8, 168 + 18 + 8)
        assert np.asarray(sheet).max() > 200
    (workspace.root / report.picture).unlink()
    again = search(workspace, wanted(workspace))
    assert (again.already_there, again.picture) == (True, report.picture)
    assert (workspace.root / report.picture).exists()


def test_tiles_that_cannot_be_read_are_passed_over(workspace):
    config = wanted(workspace)
    with workspace.session() as session:
        [asked] = tiles(session, ids=[config.tile])
        other = next(tile for tile in tiles(session, split="train") if tile.scene_id != asked.scene_id)
        path = workspace.root / session.get_one(Scene, other.scene_id).path
    path.write_bytes(path.read_bytes()[:200])
    report = search(workspace, config)
    assert report.hits > 0
    assert {hit.tile.scene_id for hit in found_in(workspace, report)} == {asked.scene_id}


@pytest.mark.parametrize("box", [(0, 0, 7.5, 20), (0, 0, 20, 7), (57, 57, 64.5, 64.5)])
def test_a_box_that_shows_less_than_eight_pixels_is_refused(workspace, box):
    with pytest.raises(BadInput, match=r"of 64 × 64 pixels. expected sides of 8 pixels"):
        search(workspace, wanted(workspace, box=box))


class Watching:
    """Notes after every report how many hits are stored, and stops the search when it has seen enough of them."""

    def __init__(self, workspace, enough=10**9):
        self.workspace, self.enough, self.seen = workspace, enough, []

    def __call__(self, done, total, message):
        with self.workspace.session(write=False) as session:
            known = searches(session)
        self.seen.append((message, known[-1].hits if known else 0))
        if self.seen[-1][1] >= self.enough:
            raise Cancelled("enough")


def test_the_first_hits_are_there_while_the_search_goes_on(workspace, monkeypatch):
    monkeypatch.setattr("engine.catalog.look_alikes.FIRST_WINDOWS", 4)
    watching = Watching(workspace)
    report = search(workspace, wanted(workspace, hits=100), progress=watching)
    shown = [hits for _, hits in watching.seen]
    assert 0 < shown[-1] <= report.hits
    assert [message for message, _ in watching.seen[: shown.index(next(filter(None, shown)))]].count("look closely") > 0


def test_a_new_archive_shows_hits_before_all_of_it_is_described(workspace, monkeypatch):
    monkeypatch.setattr("engine.catalog.look_alikes.SHARD", 1)
    watching = Watching(workspace)
    search(workspace, wanted(workspace), progress=watching)
    assert any(hits for message, hits in watching.seen if message == "describe tiles")


def test_the_hits_in_the_end_do_not_depend_on_what_was_shown_before(workspace, monkeypatch, tmp_path):
    shutil.copytree(workspace.root, tmp_path / "again")
    once = found_in(workspace, search(workspace, wanted(workspace, hits=8)))
    monkeypatch.setattr("engine.catalog.look_alikes.SHARD", 1)
    monkeypatch.setattr("engine.catalog.look_alikes.FIRST_WINDOWS", 3)
    monkeypatch.setattr("engine.stages.search.SECONDS_BETWEEN_STORES", 0.0)
    with Workspace.open(tmp_path / "again") as other:
        often = found_in(other, search(other, wanted(other, hits=8)))
    assert [hit.tile.id for hit in often] == [hit.tile.id for hit in once]
    assert np.allclose([hit.box_tile for hit in often], [hit.box_tile for hit in once], atol=1e-3)


def test_a_search_that_was_stopped_keeps_what_it_found_and_goes_on_with_it(workspace, monkeypatch):
    monkeypatch.setattr("engine.catalog.look_alikes.FIRST_WINDOWS", 4)
    with pytest.raises(Cancelled):
        search(workspace, wanted(workspace, hits=100), progress=Watching(workspace, enough=1))
    with workspace.session(write=False) as session:
        [stopped] = searches(session)
        first = hits(session, stopped.id)
    assert stopped.hits > 0
    assert events_of(workspace) == []
    with workspace.session() as session:
        decide(session, first[0].id, accept=False, label=None, annotator="ana")
    report = search(workspace, wanted(workspace, hits=100))
    assert (report.search, report.already_there) == (stopped.id, False)
    assert first[0].id in {hit.id for hit in found_in(workspace, report) if hit.decision == "no"}
    assert len(events_of(workspace)) == 1
    assert search(workspace, wanted(workspace, hits=100)).already_there


def events_of(workspace):
    with workspace.session(write=False) as session:
        return events(session, "search")
