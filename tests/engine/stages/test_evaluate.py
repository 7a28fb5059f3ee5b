"""evaluate: on reviewed tiles of the split alone, kept with the model, and what is missing is said."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import delete, select, update

from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.ledger import events
from engine.catalog.models import get_model
from engine.catalog.schema import Annotation, Review, Scene
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, LabelSetMismatch, NothingToDo
from engine.evaluation.plots import DIAGRAMS, WORST_SHEET, worst_name
from engine.stages.evaluate import EvaluateConfig, evaluate
from engine.stages.ingest import IngestConfig, ingest

Fake = Callable[[str], ModuleType]
NUMBERS = EvaluateConfig(pictures=False)


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        yield made


def test_perfect_predictions_are_perfect_and_kept_with_the_model(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test")
    report = evaluate(workspace, NUMBERS)
    assert (report.model, report.predictions, report.split) == ("detector", "on-test", "test")
    assert (report.metrics.ap, report.metrics.ap50, report.metrics.tiles) == (pytest.approx(1), pytest.approx(1), 4)
    on_file = json.loads((workspace.root / report.file).read_text())
    with workspace.session() as session:
        kept = get_model(session, "detector").metrics
        assert list(kept) == ["test"]
        assert on_file["metrics"].items() <= kept["test"].items()
        [event] = events(session, "evaluate")
    assert on_file["metrics"]["ap50"] == event.details["ap50"] == pytest.approx(1)
    assert on_file["config"]["split"] == "test"


def test_worse_predictions_score_less(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
    assert 0 < evaluate(workspace, NUMBERS).metrics.ap50 < 0.9


def test_each_split_keeps_its_own_metrics(workspace: Workspace, fake: Fake) -> None:
    train = [tile.id for tile in fake("labelled").records(workspace, "train")]
    with workspace.session() as session:
        session.execute(update(Annotation).values(state="accepted"))
        mark_reviewed(session, train, by="somebody")
    fake("labelled").predict(workspace, "on-test", split="test")
    fake("labelled").predict(workspace, "on-train", split="train", keep=0.5)
    evaluate(workspace, NUMBERS)
    evaluate(workspace, EvaluateConfig(pictures=False, split="train"))
    with workspace.session() as session:
        metrics = get_model(session).metrics
    assert metrics["train"]["ap50"] < metrics["test"]["ap50"]
    assert metrics["train"]["tiles"] == 16


def test_tiles_that_nobody_reviewed_do_not_count(workspace: Workspace, fake: Fake) -> None:
    test = [tile.id for tile in fake("labelled").records(workspace, "test")]
    fake("labelled").predict(workspace, "on-test", split="test")
    with workspace.session() as session:
        session.execute(delete(Review).where(Review.tile_id == test[0]))
    assert evaluate(workspace, NUMBERS).metrics.tiles == 3


def test_withheld_boxes_do_not_count(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test")
    before = evaluate(workspace, NUMBERS).metrics
    with workspace.session() as session:
        session.execute(update(Annotation).where(Annotation.scene_id == 3, Annotation.label == 0).values(state="withheld"))
    after = evaluate(workspace, NUMBERS).metrics
    assert after.boxes < before.boxes
    assert after.ap50_per_class["car"] is None


def test_the_newest_predictions_of_the_model_that_cover_the_split_are_taken(workspace: Workspace, fake: Fake) -> None:
    test = [tile.id for tile in fake("labelled").records(workspace, "test")]
    fake("labelled").predict(workspace, "old", split="test", model="first")
    fake("labelled").predict(workspace, "new", split="test", model="first", keep=0.5)
    fake("labelled").predict(workspace, "part", split="test", model="first", only=test[:2])
    fake("labelled").predict(workspace, "other", split="test", model="second")
    assert evaluate(workspace, NUMBERS).predictions == "other"
    assert evaluate(workspace, EvaluateConfig(pictures=False, model="first")).predictions == "new"
    assert evaluate(workspace, EvaluateConfig(pictures=False, predictions="old")).model == "first"
    with pytest.raises(BadInput, match=r"'part' do not cover the 4 reviewed tiles.*--split test --model first"):
        evaluate(workspace, EvaluateConfig(pictures=False, predictions="part"))
    with pytest.raises(BadInput, match="made by 'first', not by 'second'"):
        evaluate(workspace, EvaluateConfig(pictures=False, predictions="old", model="second"))


def test_missing_predictions_say_what_to_type(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-train", split="train")
    with pytest.raises(
        BadInput, match=r"no predictions of 'detector' on the 4 reviewed tiles.*tilehawk predict --split test --model detector"
    ):
        evaluate(workspace, NUMBERS)
    assert list(workspace.reports.iterdir()) == []


@pytest.mark.guarantee("G31")
def test_a_model_of_other_classes_is_refused(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", fingerprint="0" * 16)
    with pytest.raises(LabelSetMismatch, match=r"other classes.*\['car', 'ship'\]"):
        evaluate(workspace, NUMBERS)


def test_a_split_without_reviews_or_objects_is_nothing_to_do(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test")
    with pytest.raises(NothingToDo, match="no tile of the split 'dev' is reviewed"):
        evaluate(workspace, EvaluateConfig(pictures=False, split="dev"))
    with workspace.session() as session:
        session.execute(delete(Annotation).where(Annotation.state == "accepted"))
    with pytest.raises(NothingToDo, match="not one true box on 4 tiles"):
        evaluate(workspace, NUMBERS)
    assert list(workspace.reports.iterdir()) == []


def test_a_pretrained_model_cannot_be_evaluated(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", stage="pretrain", fingerprint=None)
    with pytest.raises(BadInput, match="tilehawk finetune"):
        evaluate(workspace, NUMBERS)


def test_without_pictures_there_are_only_numbers(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
    report = evaluate(workspace, NUMBERS)
    assert report.pictures is None
    assert [file.name for file in workspace.reports.iterdir()] == ["evaluation-on-test-test.json"]


@pytest.mark.parametrize(
    ("config", "on_dev", "threshold", "where"),
    [
        (EvaluateConfig(pictures=False, score_threshold=0.2), 0.7, 0.2, "config"),
        (NUMBERS, 0.7, 0.7, "dev"),
        (NUMBERS, None, None, "test"),
    ],
)
def test_the_threshold_is_the_given_one_or_that_of_dev_or_its_own(
    workspace: Workspace, fake: Fake, config: EvaluateConfig, on_dev: float | None, threshold: float | None, where: str
) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
    with workspace.session() as session:
        get_model(session).metrics = {} if on_dev is None else {"dev": {"best_threshold": on_dev}}
    report = evaluate(workspace, config)
    analysis = json.loads((workspace.root / report.file).read_text())["analysis"]
    assert (report.threshold_from, report.point.threshold) == (where, analysis["best"]["threshold"] if threshold is None else threshold)


def test_what_is_wrong_is_told_class_by_class_and_tile_by_tile(workspace: Workspace, fake: Fake) -> None:
    predictions = fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
    truth = fake("labelled").truth(workspace, "test")
    report = evaluate(workspace, NUMBERS)
    missed = {tile: len(boxes) - len(predictions.of_tile(tile)) for tile, boxes in truth.items()}
    assert {each.tile: each.missed for each in report.worst_tiles} == {tile: count for tile, count in missed.items() if count}
    assert [each.missed for each in report.worst_tiles] == sorted(filter(None, missed.values()), reverse=True)
    assert sum(each.boxes for each in report.per_class) == report.metrics.boxes
    assert {each.name: each.ap50 for each in report.per_class} == report.metrics.ap50_per_class
    one = evaluate(workspace, EvaluateConfig(pictures=False, worst_tiles=1))
    assert one.worst_tiles == report.worst_tiles[:1]


def test_pictures_are_replaced_as_a_whole_and_a_tile_without_pixels_is_named(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
    stale = workspace.reports / "evaluation-on-test-test" / "stale.png"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    report = evaluate(workspace, EvaluateConfig())
    assert report.unreadable == tuple(each.tile for each in report.worst_tiles), "this workspace has no rasters"
    assert report.pictures == "reports/evaluation-on-test-test"
    assert {file.stem for file in (workspace.root / report.pictures).iterdir()} == set(DIAGRAMS)
    evaluate(workspace, NUMBERS)
    assert not stale.parent.exists(), "no picture of an earlier evaluation stands beside these numbers"


def test_the_worst_tiles_are_drawn_from_their_scenes(tmp_path: Path, write_picture: Callable[..., Path], fake: Fake) -> None:
    write_picture(tmp_path / "imagery" / "a.png", width=96, height=32)
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "imagery", IngestConfig(tile=32, overlap=0, ground="test"))
        with workspace.session() as session:
            set_label_set(session, fake("labelled").LABELS.names)
            scene = session.scalars(select(Scene)).one()
            for left in (2, 34, 66):
                session.add(Annotation(scene_id=scene.id, x1=left, y1=2, x2=left + 20, y2=22, label=0, source="a", state="accepted"))
            mark_reviewed(session, [tile.id for tile in tiles(session)], by="somebody")
        fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
        report = evaluate(workspace, EvaluateConfig())
        folder = workspace.root / str(report.pictures)
        drawn = {file.stem for file in folder.iterdir()} - set(DIAGRAMS)
        assert 1 <= len(report.worst_tiles) <= 2
        assert drawn == {WORST_SHEET, *(worst_name(place + 1) for place in range(len(report.worst_tiles)))}
        assert np.asarray(Image.open(folder / "worst-01.png")).shape == (128, 128, 3), "a small tile is enlarged"
    assert report.unreadable == ()
