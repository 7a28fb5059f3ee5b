"""finetune: from reviewed tiles to a detector, once."""

import csv
import json
import shutil
from dataclasses import asdict

import pytest
from sqlalchemy import delete, update

from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.ledger import events
from engine.catalog.models import get_model, model_directory, models
from engine.catalog.schema import Annotation, LabelSetRow, Review
from engine.catalog.tiles import tiles
from engine.catalog.training import RunIdentity, run_checkpoints
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, CheckpointRefused, LabelSetMismatch, NothingToDo, UsageError
from engine.models.store import read_model
from engine.stages.evaluate import EvaluateConfig, evaluate
from engine.stages.finetune import FinetuneConfig, finetune
from engine.stages.predict import PredictConfig, predict
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.training.journal import LOG_NAME


@pytest.fixture
def config(squares):
    return FinetuneConfig(schedule=squares.schedule(images_seen=4), detector=squares.TINY)


@pytest.fixture
def workspace(squares, fake, tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        yield made


def changed(config, **values):
    return FinetuneConfig.from_mapping(config.model_dump() | values)


def weights(workspace, model):
    return (model_directory(workspace, model) / "model.safetensors").read_bytes()


def test_what_is_learned_holds_on_ground_that_was_never_seen(learned, squares):
    """The whole way: fine-tune, predict, evaluate."""
    report = learned.tuned
    assert (report.tiles, report.stage, report.start) == (4, "finetune", None)
    assert report.last_loss < 0.5 * report.first_loss
    for split, enough in (("train", 0.8), ("test", 0.5)):
        said = predict(learned.workspace, PredictConfig(model=report.model, split=split, threads=1))
        assert (said.model, said.split) == (report.model, split)
        measured = evaluate(learned.workspace, EvaluateConfig(split=split, predictions=said.predictions))
        assert measured.metrics.ap50 > enough


def test_the_report_the_catalog_and_the_folder_agree(learned, squares):
    report = learned.tuned
    with learned.workspace.session(write=False) as session:
        row = get_model(session, report.model)
        boxes = session.query(Annotation).count()
        [event] = events(session, "finetune")
    stored = read_model(model_directory(learned.workspace, report.model))
    on_disk = json.loads((stored.directory / "metrics.json").read_text())
    assert (stored.stage, stored.label_set, stored.config) == ("finetune", squares.LABELS, squares.TINY)
    assert row.label_set_fingerprint == squares.LABELS.fingerprint
    assert len(on_disk["losses"]) == report.images_seen / 4
    assert {**on_disk, "losses": None} == {**asdict(report), "losses": None}
    assert row.metrics["training"].items() >= asdict(report).items()
    assert event.details["model"] == report.model
    assert 0 < report.boxes < boxes


def test_the_log_stays_when_the_run_is_done(learned):
    with (learned.workspace.root / learned.tuned.log / LOG_NAME).open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == learned.tuned.images_seen / 4


def test_the_dev_tiles_are_looked_at_when_asked_for(workspace, config, squares):
    looking = changed(config, schedule=squares.schedule(images_seen=8, evaluate_every=4))
    report = finetune(workspace, looking)
    assert [seen for seen, _ in report.dev] == [4, 8]
    assert all(0 <= value <= 1 for _, value in report.dev)
    assert report.model != finetune(workspace, config).model
    with workspace.session() as session:
        dev = [tile.scene_id for tile in tiles(session, split="dev")]
        session.execute(delete(Annotation).where(Annotation.scene_id.in_(dev)))
    with pytest.raises(NothingToDo, match="1 tiles of the dev ground are reviewed, without a box"):
        finetune(workspace, looking)


def test_the_same_call_again_trains_nothing(learned):
    again = finetune(learned.workspace, learned.config, progress=lambda *call: pytest.fail("trained"))
    assert again.already_there
    assert asdict(again) | {"already_there": False} == asdict(learned.tuned)


def test_a_model_whose_folder_is_damaged_is_trained_again(workspace, config):
    first = finetune(workspace, config)
    whole = weights(workspace, first.model)
    (model_directory(workspace, first.model) / "model.safetensors").write_bytes(whole[:100])
    again = finetune(workspace, config)
    assert (again.already_there, weights(workspace, again.model)) == (False, whole)
    shutil.rmtree(model_directory(workspace, first.model))
    assert not finetune(workspace, config).already_there


def test_new_labels_are_a_new_run(workspace, config):
    first = finetune(workspace, config)
    with workspace.session() as session:
        session.execute(update(Annotation).where(Annotation.scene_id == 1).values(x2=Annotation.x2 + 1))
    second = finetune(workspace, config)
    assert (second.already_there, second.model == first.model) == (False, False)


def test_a_tile_that_turns_out_to_be_empty_is_a_new_run_beside_unlabelled_ones(workspace, config):
    with workspace.session() as session:
        last = tiles(session, split="train")[-1]
        session.execute(delete(Review).where(Review.tile_id == last.id))
        session.execute(delete(Annotation).where(Annotation.scene_id == last.scene_id))
    chosen = changed(config, encoder={"task": "jigsaw-discrete", "patch": 32})
    first = finetune(workspace, chosen)
    with workspace.session() as session:
        mark_reviewed(session, [last.id], by="somebody")
    second = finetune(workspace, chosen)
    assert (second.already_there, second.tiles) == (False, first.tiles + 1)


def test_only_reviewed_tiles_of_the_training_ground_and_accepted_boxes_count(workspace, config):
    with workspace.session() as session:
        train = [tile.id for tile in tiles(session, split="train")]
        session.execute(delete(Review).where(Review.tile_id == train[0]))
        session.execute(update(Annotation).where(Annotation.scene_id == 2).values(state="withheld"))
    report = finetune(workspace, config)
    with workspace.session() as session:
        session.execute(delete(Annotation).where(Annotation.state == "withheld"))
    assert report.tiles == 3
    assert finetune(workspace, config).already_there


def test_a_cancelled_run_goes_on_where_it_was_stopped(workspace, config):
    def stop(done, total, message):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        finetune(workspace, config, progress=stop)
    assert [path.name for path in workspace.models.iterdir()] == []
    report = finetune(workspace, config)
    assert (report.resumed_at_step, report.images_seen) == (1, 4)
    assert list(workspace.checkpoints.iterdir()) == []
    whole = finetune(workspace, changed(config, name="whole"))
    assert weights(workspace, whole.model) == weights(workspace, report.model)


def test_checkpoints_that_a_crash_left_beside_the_finished_model_are_removed(workspace, config):
    report = finetune(workspace, config)
    with workspace.session(write=False) as session:
        fingerprint = get_model(session, report.model).metrics["training"]["fingerprint"]
    left = workspace.checkpoints / f"finetune-{fingerprint}"
    left.mkdir()
    (left / "step-00000001").mkdir()
    assert finetune(workspace, config).already_there
    assert not left.exists()


def test_identity_changes_with_all_that_matters(squares):
    base = {"stage": "finetune", "config": {"a": 1}, "data": "d", "parent": None, "label_set": squares.LABELS}
    others = [{"stage": "pretrain"}, {"config": {"a": 2}}, {"data": "e"}, {"parent": "p"}, {"label_set": type(squares.LABELS)(("red",))}]
    prints = {RunIdentity(**base | other).fingerprint for other in [{}, *others]}
    assert len(prints) == 6


def test_two_names_of_one_run_share_their_checkpoints(workspace, squares):
    identity = RunIdentity("finetune", {}, "d", None, squares.LABELS)
    assert run_checkpoints(workspace, identity).directory.name == identity.name(None)
    assert identity.name("mine") == "mine"


def test_it_starts_from_the_newest_pre_trained_model_or_the_one_named(workspace, squares, config):
    schedule = squares.schedule(images_seen=2)
    first, second = (
        pretrain(
            workspace,
            PretrainConfig(name=name, schedule=schedule, patches=squares.PATCHES, detector=squares.TINY, freeze_backbone=False),
        )
        for name in ("first", "second")
    )
    newest, named, scratch = (finetune(workspace, changed(config, start=start)) for start in (None, "first", "scratch"))
    tuned = finetune(workspace, changed(config, start=scratch.model))
    assert [report.start for report in (newest, named, scratch, tuned)] == [second.model, first.model, None, scratch.model]
    assert weights(workspace, newest.model) == weights(workspace, named.model) != weights(workspace, scratch.model)
    with workspace.session(write=False) as session:
        parent = get_model(session, newest.model).parent_id
        assert {row.id: row.name for row in models(session)}[parent] == "second"


@pytest.mark.guarantee("G31")
def test_a_start_of_another_architecture_is_refused_before_anything_is_trained(workspace, squares, config):
    brief = squares.schedule(images_seen=2)
    pretrain(workspace, PretrainConfig(schedule=brief, patches=squares.PATCHES, detector=squares.TINY, freeze_backbone=False))
    other = config.detector.model_copy(update={"points": 1})
    with pytest.raises(CheckpointRefused, match=r"another architecture: points = 2. expected points = 1"):
        finetune(workspace, changed(config, detector=other.model_dump()), progress=lambda *call: pytest.fail("trained"))


@pytest.mark.guarantee("G31")
def test_a_start_of_other_classes_is_refused_by_name(workspace, config):
    start = finetune(workspace, config)
    with workspace.session() as session:
        session.execute(delete(LabelSetRow))
        set_label_set(session, ["red", "blue"])
    with pytest.raises(LabelSetMismatch, match=r"lacks \['blue'\]"):
        finetune(workspace, changed(config, start=start.model), progress=lambda *call: pytest.fail("trained"))


def test_a_name_of_another_run_is_refused(workspace, config):
    finetune(workspace, changed(config, name="mine"))
    with pytest.raises(BadInput, match="'mine' belongs to another model"):
        finetune(workspace, changed(config, name="mine", start="mine"))


@pytest.mark.parametrize("name", ["../mine", "a/b", ".", "a b", "-x"])
def test_a_name_that_cannot_be_a_folder_is_refused_before_anything_is_trained(workspace, config, name):
    with pytest.raises(BadInput, match="model name"):
        finetune(workspace, changed(config, name=name), progress=lambda *call: pytest.fail("trained"))


def test_a_start_that_is_not_there_is_refused(workspace, config):
    with pytest.raises(BadInput, match="no trained model named 'other'"):
        finetune(workspace, changed(config, start="other"))


def test_tiles_larger_than_the_input_are_refused_with_the_size_to_set(squares, fake, tmp_path, config):
    with Workspace.create(tmp_path / "large") as workspace:
        squares.fill(workspace, fake("catalog").add_scene, tile=96, scenes=[("wide", "train", 192)])
        with pytest.raises(UsageError, match=r"tiles of 96 px with detector.image_size = 64.*Set detector.image_size to 96"):
            finetune(workspace, config)


def test_no_class_no_review_or_no_box_is_nothing_to_do(squares, fake, tmp_path, config):
    with Workspace.create(tmp_path / "bare") as workspace:
        squares.fill(workspace, fake("catalog").add_scene, labelled=False)
        with pytest.raises(BadInput, match="no classes yet"):
            finetune(workspace, config)
        with workspace.session() as session:
            set_label_set(session, squares.LABELS.names)
        with pytest.raises(NothingToDo, match="0 tiles of the training ground are reviewed"):
            finetune(workspace, config)
        with workspace.session() as session:
            mark_reviewed(session, [tile.id for tile in tiles(session)], by="somebody")
        with pytest.raises(NothingToDo, match="4 tiles of the training ground are reviewed, with 0 boxes"):
            finetune(workspace, config)


def unreviewed(workspace, count):
    """The last ``count`` tiles of the training ground lose their reviews."""
    with workspace.session() as session:
        chosen = [tile.id for tile in tiles(session, split="train")][-count:]
        session.execute(delete(Review).where(Review.tile_id.in_(chosen)))


def test_pictures_of_the_encoder_task_change_nothing_of_the_run(workspace, config):
    asked = {"encoder": {"task": "mim-continuous"}, "pictures_every": 2}
    watched = finetune(workspace, changed(config, **asked, name="watched"))
    folder = workspace.root / watched.log / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == ["encoder-00000002.png", "encoder-00000004.png"]
    seen = weights(workspace, "watched")
    shutil.rmtree(folder)
    shutil.rmtree(model_directory(workspace, "watched"))
    plain = finetune(workspace, changed(config, **asked | {"pictures_every": 0}, name="watched"))
    assert (plain.already_there, plain.log, folder.exists()) == (False, watched.log, False)
    assert weights(workspace, "watched") == seen


def test_labels_alone_leave_no_pictures(workspace, config):
    report = finetune(workspace, changed(config, pictures_every=2))
    assert not (workspace.root / report.log / "pictures").exists()


@pytest.mark.parametrize("task", ["mim-continuous", "mim-discrete", "jigsaw-discrete"])
def test_an_encoder_task_is_learned_beside_the_labels(workspace, config, task):
    unreviewed(workspace, 2)
    encoder = {"task": task, "vocabulary": 4}
    report = finetune(workspace, changed(config, encoder=encoder, encoder_weight={"start": 0.5, "curve": "linear"}))
    assert report.tiles == 2
    rows = list(csv.DictReader((workspace.root / report.log / LOG_NAME).read_text().splitlines()))
    assert [float(row["loss.encoder.weight"]) for row in rows] == [0.5, 0.25]
    assert all(float(row["loss.encoder.patches"]) >= 4 for row in rows)
    alone = finetune(workspace, changed(config, encoder=encoder, unlabelled=0))
    assert weights(workspace, alone.model) != weights(workspace, report.model)


def test_a_vocabulary_is_kept_with_the_model_and_may_be_given_again(workspace, config):
    encoder = {"task": "mim-discrete", "vocabulary": 4}
    told = []

    def stop(done, total, message):
        told.append(message)
        if "describing" not in message:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        finetune(workspace, changed(config, encoder=encoder), progress=stop)
    assert any("describing" in message for message in told)
    told.clear()
    report = finetune(workspace, changed(config, encoder=encoder), progress=lambda done, total, message: told.append(message))
    kept = model_directory(workspace, report.model) / "tokenizer.safetensors"
    assert "tokenizer.safetensors" in read_model(kept.parent).manifest["sha256"]
    given = changed(config, encoder=encoder, tokenizer_from=report.model, start=report.model, name="given")
    again = finetune(workspace, given, progress=lambda done, total, message: told.append(message))
    assert (model_directory(workspace, again.model) / "tokenizer.safetensors").read_bytes() == kept.read_bytes()
    assert not any("describing" in message for message in told)


def test_a_vocabulary_is_taken_from_a_model_that_has_one(workspace, config):
    plain = finetune(workspace, config)
    with pytest.raises(BadInput, match=f"{plain.model} has no vocabulary"):
        finetune(workspace, changed(config, encoder={"task": "mim-discrete", "vocabulary": 4}, tokenizer_from=plain.model))
    with pytest.raises(UsageError, match=r"without encoder\.task = 'mim-discrete'"):
        FinetuneConfig.from_mapping({"tokenizer_from": plain.model})


def test_patches_that_do_not_fit_are_refused_before_anything_is_made(workspace, config):
    told = []
    for task in ("mim-discrete", "reconstruction"):
        asked = changed(config, encoder={"task": task, "patch": 48, "vocabulary": 4})
        with pytest.raises(UsageError, match=r"patch = 48 with image_size"):
            finetune(workspace, asked, progress=lambda done, total, message: told.append(message))
    assert not any("describing" in message for message in told)


def test_the_dev_ap_is_that_of_the_detector(workspace, config, squares):
    schedule = squares.schedule(images_seen=4, evaluate_every=2)
    report = finetune(workspace, changed(config, schedule=schedule, encoder={"task": "reconstruction"}))
    assert [seen for seen, _ in report.dev] == [2.0, 4.0]


def test_what_a_model_believes_of_other_tiles_is_learned(workspace, config, squares, learned):
    unreviewed(workspace, 2)
    teacher = finetune(workspace, changed(learned.config, schedule=squares.schedule(images_seen=160, batch_size=4, learning_rate=3e-3)))
    chosen = changed(config, start=teacher.model, self_training={"least_score": 0.3}, schedule=squares.schedule(images_seen=12))
    told = []

    def stop(done, total, message):
        told.append(message)
        if "labelling" not in message:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        finetune(workspace, chosen, progress=stop)
    assert any("labelling" in message for message in told)
    told.clear()
    report = finetune(workspace, chosen, progress=lambda done, total, message: told.append(message))
    assert not any("labelling" in message for message in told)
    rows = list(csv.DictReader((workspace.root / report.log / LOG_NAME).read_text().splitlines()))
    seen = {int(tile) for row in rows for tile in row["tiles"].split()}
    assert report.tiles == 2
    assert max(seen) > 1


def test_a_teacher_is_shown_no_more_tiles_than_the_run_sees(workspace, config, squares, learned):
    unreviewed(workspace, 3)
    teacher = finetune(workspace, changed(learned.config, schedule=squares.schedule(images_seen=160, batch_size=4, learning_rate=3e-3)))
    told = []
    short = changed(config, start=teacher.model, self_training={"least_score": 0.01}, schedule=squares.schedule(images_seen=2))
    finetune(workspace, short, progress=lambda done, total, message: told.append((total, message)))
    assert {total for total, message in told if "labelling" in message} == {2}


def test_a_teacher_that_is_sure_of_nothing_is_no_teacher(workspace, config):
    unreviewed(workspace, 2)
    teacher = finetune(workspace, changed(config, start="scratch"))
    with pytest.raises(NothingToDo, match=r"finds nothing from a score of 0.999 on 2 tiles"):
        finetune(workspace, changed(config, start=teacher.model, self_training={"least_score": 0.999}))


def test_only_a_fine_tuned_model_can_teach(workspace, config, learned):
    unreviewed(workspace, 1)
    with pytest.raises(UsageError, match="no model to start from"):
        finetune(workspace, changed(config, start="scratch", self_training={}))


def test_a_teacher_needs_tiles_without_labels(workspace, config):
    teacher = finetune(workspace, changed(config, start="scratch"))
    with pytest.raises(NothingToDo, match="every tile"):
        finetune(workspace, changed(config, start=teacher.model, self_training={}))
