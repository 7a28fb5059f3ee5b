"""evaluate: on reviewed tiles of the split alone, kept with the model, and what is missing is said."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import delete, update

from engine.catalog.annotations import mark_reviewed
from engine.catalog.ledger import events
from engine.catalog.models import get_model
from engine.catalog.schema import Annotation, Review
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, LabelSetMismatch, NothingToDo
from engine.stages.evaluate import EvaluateConfig, evaluate

Fake = Callable[[str], ModuleType]


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        yield made


def test_perfect_predictions_are_perfect_and_kept_with_the_model(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test")
    report = evaluate(workspace, EvaluateConfig())
    assert (report.model, report.predictions, report.split) == ("detector", "on-test", "test")
    assert (report.metrics.ap, report.metrics.ap50, report.metrics.tiles) == (pytest.approx(1), pytest.approx(1), 4)
    on_file = json.loads((workspace.root / report.file).read_text())
    with workspace.session() as session:
        assert get_model(session, "detector").metrics == {"test": on_file["metrics"]}
        [event] = events(session, "evaluate")
    assert on_file["metrics"]["ap50"] == event.details["ap50"] == pytest.approx(1)
    assert on_file["config"]["split"] == "test"


def test_worse_predictions_score_less(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", keep=0.5)
    assert 0 < evaluate(workspace, EvaluateConfig()).metrics.ap50 < 0.9


def test_each_split_keeps_its_own_metrics(workspace: Workspace, fake: Fake) -> None:
    train = [tile.id for tile in fake("labelled").records(workspace, "train")]
    with workspace.session() as session:
        session.execute(update(Annotation).values(state="accepted"))
        mark_reviewed(session, train, by="somebody")
    fake("labelled").predict(workspace, "on-test", split="test")
    fake("labelled").predict(workspace, "on-train", split="train", keep=0.5)
    evaluate(workspace, EvaluateConfig())
    evaluate(workspace, EvaluateConfig(split="train"))
    with workspace.session() as session:
        metrics = get_model(session).metrics
    assert metrics["train"]["ap50"] < metrics["test"]["ap50"]
    assert metrics["train"]["tiles"] == 16


def test_tiles_that_nobody_reviewed_do_not_count(workspace: Workspace, fake: Fake) -> None:
    test = [tile.id for tile in fake("labelled").records(workspace, "test")]
    fake("labelled").predict(workspace, "on-test", split="test")
    with workspace.session() as session:
        session.execute(delete(Review).where(Review.tile_id == test[0]))
    assert evaluate(workspace, EvaluateConfig()).metrics.tiles == 3


def test_withheld_boxes_do_not_count(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test")
    before = evaluate(workspace, EvaluateConfig()).metrics
    with workspace.session() as session:
        session.execute(update(Annotation).where(Annotation.scene_id == 3, Annotation.label == 0).values(state="withheld"))
    after = evaluate(workspace, EvaluateConfig()).metrics
    assert after.boxes < before.boxes
    assert after.ap50_per_class["car"] is None


def test_the_newest_predictions_of_the_model_that_cover_the_split_are_taken(workspace: Workspace, fake: Fake) -> None:
    test = [tile.id for tile in fake("labelled").records(workspace, "test")]
    fake("labelled").predict(workspace, "old", split="test", model="first")
    fake("labelled").predict(workspace, "new", split="test", model="first", keep=0.5)
    fake("labelled").predict(workspace, "part", split="test", model="first", only=test[:2])
    fake("labelled").predict(workspace, "other", split="test", model="second")
    assert evaluate(workspace, EvaluateConfig()).predictions == "other"
    assert evaluate(workspace, EvaluateConfig(model="first")).predictions == "new"
    assert evaluate(workspace, EvaluateConfig(predictions="old")).model == "first"
    with pytest.raises(BadInput, match=r"'part' do not cover the 4 reviewed tiles.*--split test --model first"):
        evaluate(workspace, EvaluateConfig(predictions="part"))
    with pytest.raises(BadInput, match="made by 'first', not by 'second'"):
        evaluate(workspace, EvaluateConfig(predictions="old", model="second"))


def test_missing_predictions_say_what_to_type(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-train", split="train")
    with pytest.raises(
        BadInput, match=r"no predictions of 'detector' on the 4 reviewed tiles.*tilehawk predict --split test --model detector"
    ):
        evaluate(workspace, EvaluateConfig())
    assert list(workspace.reports.iterdir()) == []


@pytest.mark.guarantee("G31")
def test_a_model_of_other_classes_is_refused(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", fingerprint="0" * 16)
    with pytest.raises(LabelSetMismatch, match=r"other classes.*\['car', 'ship'\]"):
        evaluate(workspace, EvaluateConfig())


def test_a_split_without_reviews_or_objects_is_nothing_to_do(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test")
    with pytest.raises(NothingToDo, match="no tile of the split 'dev' is reviewed"):
        evaluate(workspace, EvaluateConfig(split="dev"))
    with workspace.session() as session:
        session.execute(delete(Annotation).where(Annotation.state == "accepted"))
    with pytest.raises(NothingToDo, match="not one true box on 4 tiles"):
        evaluate(workspace, EvaluateConfig())
    assert list(workspace.reports.iterdir()) == []


def test_a_pretrained_model_cannot_be_evaluated(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "on-test", split="test", stage="pretrain", fingerprint=None)
    with pytest.raises(BadInput, match="tilehawk finetune"):
        evaluate(workspace, EvaluateConfig())
