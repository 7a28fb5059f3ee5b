"""evaluate of a model that is asked by boxes: by the paper's protocol, seen and unseen classes apart."""

import json

import pytest
import torch
from sqlalchemy import delete

from app.workflows.verbs import VERBS
from engine.catalog.annotations import label_set, tile_boxes
from engine.catalog.ledger import events
from engine.catalog.models import get_model, model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.schema import Review, Scene
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo, UsageError
from engine.evaluation.one_shot import LabelledImage, one_shot_metrics, one_shot_questions
from engine.inference.one_shot import answers, patch_feature
from engine.models.store import load_detector
from engine.progress import silent
from engine.records import Ground
from engine.stages.evaluate import EvaluateConfig, evaluate
from engine.stages.evaluate_one_shot import evaluate_model, evaluate_one_shot
from engine.stages.one_shot import OneShotTrainingConfig, one_shot
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.training.one_shot import OneShotConfig, cut


@pytest.fixture(scope="module")
def asked(squares, fake, tmp_path_factory):
    """A workspace with a one-shot model that left red squares out; its name is "asked"."""
    with Workspace.create(tmp_path_factory.mktemp("asked") / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        config = OneShotTrainingConfig(
            name="asked",
            start="scratch",
            schedule=squares.schedule(images_seen=40, batch_size=4, learning_rate=3e-3),
            detector=squares.TINY,
            asked=OneShotConfig(patch_size=32),
            look_alikes=None,
            leave_out=("red",),
        )
        one_shot(made, config)
        yield made


def by_hand(workspace, name, split):
    """The metrics, every question asked on its own."""
    with workspace.session(write=False) as session:
        records, classes = tiles(session, split=split), label_set(session)
        true = tile_boxes(session, records)
    model, _ = load_detector(model_directory(workspace, name))
    images = [LabelledImage(tile.id, true[tile.id], Ground(tile.scene_id, tile.window)) for tile in records]
    questions = one_shot_questions(images)
    with TilePixels(workspace) as pixels:
        source = WorkspaceTiles(pixels, records, true, 64)
        found = [
            [
                answers(
                    model,
                    source.image(each.image).float() / 255,
                    patch_feature(model, cut(source.image(each.shown), torch.tensor([each.box]), 32)),
                )[0]
                for each in one_round
            ]
            for one_round in questions
        ]
    return one_shot_metrics(images, questions, found, classes, unseen=["red"])


def test_what_is_asked_at_once_is_worth_what_is_asked_one_by_one(asked):
    report = evaluate_one_shot(asked, EvaluateConfig(model="asked", split="train", pictures=False))
    expected = by_hand(asked, "asked", "train")
    assert report.metrics.questions == expected.questions == 5 * 7
    assert report.metrics.unseen_classes == ("red",)
    assert report.metrics.ap50_per_class == pytest.approx(expected.ap50_per_class, abs=1e-3)
    assert (report.metrics.seen, report.metrics.unseen) == pytest.approx((expected.seen, expected.unseen), abs=1e-3)
    assert report.metrics.seen > 0


def test_the_means_are_kept_with_the_model_and_all_of_it_on_file_with_a_picture(asked):
    report = evaluate_one_shot(asked, EvaluateConfig(model="asked", split="test"))
    on_file = json.loads((asked.root / report.file).read_text())
    assert on_file["metrics"]["ap50_per_class"] == report.metrics.ap50_per_class
    assert on_file["metrics"]["rounds_per_class"]["red"] == []
    assert on_file["config"]["split"] == "test"
    with asked.session(write=False) as session:
        kept = get_model(session, "asked").metrics["test"]
        said = events(session, "evaluate")[-1].details
    assert kept == {
        "seen": report.metrics.seen,
        "unseen": None,
        "questions": 10,
        "tiles": report.metrics.images,
        "predictions": "one-shot-asked",
    }
    assert said == {"model": "asked", "split": "test", "seen": report.metrics.seen, "unseen": None}
    assert (asked.root / report.pictures / "classes.png").stat().st_size > 1000
    plain = evaluate_one_shot(asked, EvaluateConfig(model="asked", split="test", pictures=False))
    assert plain.pictures is None
    assert not (asked.root / report.pictures).exists()
    assert plain.metrics == report.metrics


def test_after_pre_training_alone_every_class_is_unseen(asked, squares):
    regions = {"taught": "look-alikes", "clusters": 2, "crop": 32, "proposals": {"boxes": 4}, "asked": {"patch_size": 32}}
    given = {"name": "looked", "schedule": squares.schedule(images_seen=4).model_dump(), "detector": squares.TINY.model_dump()}
    pretrain(asked, PretrainConfig.from_mapping({**given, "patches": None, "regions": regions, "freeze_backbone": False}))
    report = evaluate_model(asked, EvaluateConfig(model="looked", split="train", pictures=False))
    assert report.metrics.unseen_classes == ("red", "green")
    assert report.metrics.seen is None
    assert report.metrics.unseen is not None


def test_a_tile_that_cannot_be_read_is_named_and_neither_asked_nor_shown(asked):
    with asked.session(write=False) as session:
        scene = session.query(Scene).filter_by(name="train-1").one()
        path, lost = asked.root / scene.path, tuple(tile.id for tile in tiles(session, split="train") if tile.scene_id == scene.id)
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:100])
        report = evaluate_one_shot(asked, EvaluateConfig(model="asked", split="train", pictures=False))
    finally:
        path.write_bytes(whole)
    assert report.unreadable == lost
    assert (report.metrics.images, report.metrics.questions) == (2, 5 * 4)


def test_the_command_measures_a_model_as_its_kind_asks_for(asked):
    measure = VERBS["evaluate"].call
    asks = EvaluateConfig(model="asked", split="test", pictures=False)
    assert measure(asked, asks, {}, silent).metrics == evaluate_one_shot(asked, asks).metrics
    with pytest.raises(BadInput) as refused:
        evaluate(asked, EvaluateConfig(model="nobody"))
    with pytest.raises(BadInput) as again:
        measure(asked, EvaluateConfig(model="nobody"), {}, silent)
    assert str(again.value) == str(refused.value)


def test_predictions_are_refused_and_without_reviews_nothing_is_asked(asked):
    with pytest.raises(UsageError, match="no predictions: the tiles are asked"):
        evaluate_model(asked, EvaluateConfig(model="asked", predictions="on-test"))
    with asked.session() as session:
        session.execute(delete(Review).where(Review.tile_id.in_([tile.id for tile in tiles(session, split="dev")])))
    with pytest.raises(NothingToDo, match="no tile of the split 'dev' is reviewed"):
        evaluate_model(asked, EvaluateConfig(model="asked", split="dev"))
