"""search send: look-alikes that a search was unsure of become a round."""

import pytest

from engine.boxes import Boxes
from engine.catalog.annotations import set_label_set
from engine.catalog.decisions import decide
from engine.catalog.models import add_model
from engine.catalog.reviews import review_queue, save_review
from engine.catalog.rounds import get_round, round_tiles, rounds
from engine.catalog.searches import FoundHit, add_search, hits
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo
from engine.stages.near_misses import LOOK_ALIKES, NearMissConfig, send_near_misses

SCORES = (0.9, 0.7, 0.6, 0.5, 0.45, 0.2)
BOX = (4.0, 4.0, 20.0, 20.0)


@pytest.fixture
def workspace(tmp_path, fake):
    """Six train tiles, a look-alike on each by falling score and a second on the third, and one on a test tile."""
    with Workspace.create(tmp_path / "workspace") as made:
        with made.session() as session:
            set_label_set(session, ["car"])
            _, train = fake("catalog").add_scene(session, "a.tif", width=192, height=128, split="train")
            _, test = fake("catalog").add_scene(session, "b.tif", split="test")
            add_model(session, name="m", stage="pretrain", config={}, data_hash="0")
            made.tiles, made.test_tile = [row.id for row in train], test[0].id
            found = [FoundHit(tile, BOX, score) for tile, score in zip(made.tiles, SCORES, strict=True)]
            found += [FoundHit(made.tiles[2], (30.0, 30.0, 50.0, 50.0), 0.1), FoundHit(made.test_tile, BOX, 0.55)]
            made.search = add_search(
                session, fingerprint="f", tile_id=made.tiles[0], box_tile=BOX, model_id=1, config={"hits": 9}, found=found
            )
        yield made


def say(workspace, *positions, accept):
    with workspace.session() as session:
        for hit in hits(session, workspace.search):
            if hit.position in positions:
                decide(session, hit.id, accept=accept, label=0 if accept else None, annotator="ana")


def send(workspace, **values):
    return send_near_misses(workspace, NearMissConfig(search=workspace.search, **values))


def test_the_nearest_undecided_scores_become_a_round_with_reasons_that_review_queues(workspace):
    report = send(workspace, around=0.52, tiles=3)
    wanted = [workspace.tiles[index] for index in (3, 4, 2)]
    assert [tile.tile_id for tile in report.tiles] == wanted
    with workspace.session(write=False) as session:
        row = get_round(session)
        links = round_tiles(session, row)
        assert [tile.id for tile in review_queue(session)][:3] == wanted
    assert (row.strategy, row.state, row.estimated_seconds) == (LOOK_ALIKES, "ranked", pytest.approx(report.estimated_seconds))
    assert links[0].reasons["why"] == f"Search {workspace.search} is unsure of a look-alike here: score 0.50, asked around 0.52."
    assert links[2].reasons["hits"] == [3, 7], "both look-alikes of the tile, the nearer first"
    assert [link.score for link in links] == [0.5, 0.45, 0.6]


def test_without_a_score_it_is_the_one_that_parts_yes_from_no(workspace):
    say(workspace, 0, 1, accept=True)
    say(workspace, 5, accept=False)
    assert send(workspace, tiles=2).around == pytest.approx(0.45)


def test_before_any_decision_it_is_the_middle_of_the_undecided(workspace):
    assert send(workspace).around == pytest.approx(0.5)


def test_a_margin_bounds_what_is_near(workspace):
    report = send(workspace, around=0.5, margin=0.06)
    assert ([tile.score for tile in report.tiles], report.undecided) == ([0.5, 0.45], 2)


def test_test_ground_is_never_sent(workspace):
    assert workspace.test_tile not in [tile.tile_id for tile in send(workspace, around=0.55).tiles]


def test_what_waits_or_was_looked_at_is_not_sent_again(workspace):
    send(workspace, around=0.5, tiles=2)
    with workspace.session() as session:
        save_review(session, workspace.tiles[2], Boxes.empty(), source="browser", annotator="ana", seconds=30.0, complete=True)
    again = send(workspace, around=0.5, margin=0.2)
    assert ([tile.score for tile in again.tiles], again.left_out) == ([0.7], 3)
    with pytest.raises(NothingToDo, match="looked at or wait in a round"):
        send(workspace, around=0.5, margin=0.2)
    with workspace.session(write=False) as session:
        assert [row.number for row in rounds(session)] == [1, 2]


def test_labelled_tiles_say_how_much_work_a_tile_is(workspace):
    with workspace.session() as session:
        save_review(session, workspace.tiles[5], Boxes.empty(), source="browser", annotator="ana", seconds=None, complete=True)
    report = send(workspace, around=0.9, tiles=1)
    assert report.estimated_seconds == pytest.approx(NearMissConfig(search=1).prices.open), "no box on the only labelled tile"


def test_nothing_undecided_and_an_unknown_search_are_named(workspace):
    say(workspace, *range(9), accept=False)
    with pytest.raises(NothingToDo, match="no undecided look-alike"):
        send(workspace)
    with pytest.raises(BadInput, match="no search 9"):
        send_near_misses(workspace, NearMissConfig(search=9))
