"""pretrain: on the training ground alone, labelled or not."""

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import select

from engine.catalog.annotations import mark_reviewed
from engine.catalog.ledger import events
from engine.catalog.models import add_model, get_model, model_directory
from engine.catalog.schema import Scene, Tile
from engine.catalog.tiles import scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, NothingToDo, UsageError
from engine.models.detector import Detector
from engine.models.store import read_model, start_from
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.training.loop import seeded


@pytest.fixture
def config(squares):
    brief = squares.schedule(images_seen=4)
    return PretrainConfig(schedule=brief, patches=squares.PATCHES, detector=squares.TINY, freeze_backbone=False)


@pytest.fixture
def workspace(squares, fake, tmp_path):
    """Nothing in it is labelled."""
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene, labelled=False)
        yield made


def weights(workspace, report):
    return (model_directory(workspace, report.model) / "model.safetensors").read_bytes()


def test_no_label_is_needed_and_the_model_speaks_no_class(workspace, config):
    report = pretrain(workspace, config)
    stored = read_model(model_directory(workspace, report.model))
    assert (report.stage, report.start, report.tiles, report.boxes, report.images_seen) == ("pretrain", None, 4, 0, 4)
    assert (stored.stage, len(stored.label_set), stored.config) == ("pretrain", 0, config.detector)
    assert not list(workspace.checkpoints.iterdir())
    with workspace.session(write=False) as session:
        [event] = events(session, "pretrain")
    assert event.details["model"] == report.model


def test_dev_and_test_ground_are_never_seen(workspace, config):
    """Their rasters are gone, and the run is the same to the bit."""
    whole = pretrain(workspace, config)
    with workspace.session() as session:
        for scene in session.scalars(select(Scene).where(Scene.split != "train")):
            scene_file(workspace, scene).unlink()
    again = pretrain(workspace, config.model_copy(update={"name": "again"}))
    assert (again.already_there, again.tiles) == (False, 4)
    assert weights(workspace, again) == weights(workspace, whole)


def test_reviews_change_nothing(workspace, config):
    first = pretrain(workspace, config)
    with workspace.session() as session:
        mark_reviewed(session, [tile.id for tile in tiles(session)][:2], by="somebody")
    assert pretrain(workspace, config).model == first.model


def test_another_configuration_is_another_model(workspace, config):
    other = config.model_copy(update={"schedule": config.schedule.model_copy(update={"seed": 1})})
    assert pretrain(workspace, config).model != pretrain(workspace, other).model


def test_no_tile_of_the_training_ground_is_nothing_to_do(squares, fake, tmp_path, config):
    with Workspace.create(tmp_path / "empty") as workspace:
        with pytest.raises(NothingToDo, match="tilehawk ingest"):
            pretrain(workspace, config)
        squares.fill(workspace, fake("catalog").add_scene, labelled=False, scenes=squares.SCENES[2:])
        with pytest.raises(NothingToDo, match="no tile of the training ground"):
            pretrain(workspace, config)


def test_patches_that_do_not_divide_the_slots_are_refused(workspace, config):
    odd = config.model_copy(update={"patches": config.patches.model_copy(update={"patches": 3})})
    with pytest.raises(UsageError, match=r"patches.patches = 3 with detector.patch_slots = 20.*1, 2, 4, 5, 10, 20"):
        pretrain(workspace, odd)


def test_fewer_tiles_than_images_in_a_step_are_refused(workspace, config, squares):
    with pytest.raises(UsageError, match=r"4 tiles of the training ground with schedule.batch_size = 5"):
        pretrain(workspace, config.model_copy(update={"schedule": squares.schedule(batch_size=5)}))


def test_tiles_smaller_than_a_patch_are_refused(workspace, config):
    with workspace.session() as session:
        for row in session.scalars(select(Tile)):
            row.width = 24
    with pytest.raises(UsageError, match=r"encoder.patch = 32 with tiles of 24 px"):
        pretrain(workspace, with_tasks(config, encoder=ENCODER))


def with_tasks(config, **values):
    return PretrainConfig.from_mapping(config.model_dump() | {"patches": None} | values)


REGIONS = {"proposals": {"boxes": 6, "grid": 64, "colours": (2, 3), "least_cells": 6}, "clusters": 3, "crop": 32}
ENCODER = {"task": "mim-discrete", "patch": 32, "vocabulary": 4}


@pytest.mark.parametrize(
    "values",
    [
        {"encoder": {"task": "jigsaw-discrete"}},
        {"encoder": ENCODER},
        {"regions": REGIONS},
        {"regions": REGIONS | {"taught": "embedding"}},
        {"regions": REGIONS, "encoder": ENCODER, "encoder_weight": {"start": 0.5, "curve": "cosine"}},
    ],
)
def test_every_task_leaves_a_model_to_start_from(workspace, config, squares, values):
    report = pretrain(workspace, with_tasks(config, **values))
    stored = read_model(model_directory(workspace, report.model))
    classes = {"clusters": 3, "embedding": 1}[values["regions"].get("taught", "clusters")] if "regions" in values else 0
    assert (stored.stage, len(stored.label_set)) == ("pretrain", classes)
    assert ("tokenizer.safetensors" in stored.manifest["sha256"]) == (values.get("encoder") == ENCODER)
    held = load_file(stored.directory / "model.safetensors")
    with seeded(1):
        model = Detector(config.detector, 5)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from(model, stored.directory)
    after = model.state_dict()
    assert torch.equal(after["encoder.projections.0.0.weight"], held["encoder.projections.0.0.weight"])
    assert torch.equal(after["class_heads.0.0.weight"], fresh["class_heads.0.0.weight"])
    learned = "region_stage.mix.0.weight"
    assert torch.equal(after[learned], held[learned] if classes else fresh[learned])


def test_regions_and_words_are_found_once(workspace, config):
    chosen = with_tasks(config, regions=REGIONS, encoder=ENCODER)
    told = []

    def stop(done, total, message):
        told.append(message.split(" ")[0])
        if "proposing" not in message and "describing" not in message:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        pretrain(workspace, chosen, progress=stop)
    assert {"proposing", "describing"} <= set(told)
    told.clear()
    report = pretrain(workspace, chosen, progress=lambda done, total, message: told.append(message.split(" ")[0]))
    assert report.resumed_at_step == 1
    assert not {"proposing", "describing"} & set(told)


def test_another_run_on_the_same_tiles_takes_the_regions_that_were_found(workspace, config):
    told = []
    longer = {**config.schedule.model_dump(), "images_seen": config.schedule.images_seen + 2}
    for changed in ({}, {"schedule": longer}):
        told.append([])
        chosen = with_tasks(config, regions=REGIONS, **changed)
        pretrain(workspace, chosen, progress=lambda done, total, message: told[-1].append(message))
    assert ["proposing regions" in messages for messages in told] == [True, False]


def test_a_tokenizer_may_be_given_if_it_comes_from_here(workspace, config, squares, fake, tmp_path):
    first = pretrain(workspace, with_tasks(config, encoder=ENCODER, name="first"))
    path = model_directory(workspace, first.model) / "tokenizer.safetensors"
    given = with_tasks(config, encoder=ENCODER, tokenizer_from="first", name="second")
    second = model_directory(workspace, pretrain(workspace, given).model) / "tokenizer.safetensors"
    assert torch.equal(load_file(second)["centres"], load_file(path)["centres"])
    with Workspace.create(tmp_path / "other") as other:
        squares.fill(other, fake("catalog").add_scene, labelled=False)
        with pytest.raises(BadInput, match="no trained model named 'first'"):
            pretrain(other, given)


def test_patches_that_do_not_fit_are_refused_before_anything_is_made(workspace, config):
    told = []
    asked = with_tasks(config, encoder={**ENCODER, "patch": 48}, regions=REGIONS)
    with pytest.raises(UsageError, match=r"patch = 48 with image_size"):
        pretrain(workspace, asked, progress=lambda done, total, message: told.append(message))
    assert not told


def test_boxes_are_denoised_only_where_there_are_some(workspace, config, squares):
    detector = squares.TINY.model_copy(update={"denoising_groups": 2})
    with pytest.raises(UsageError, match="denoising_groups = 2, and nothing taught"):
        pretrain(workspace, with_tasks(config, encoder=ENCODER, detector=detector))


def test_regions_are_taught_where_nothing_is_said_and_patches_want_a_frozen_backbone():
    plain = PretrainConfig()
    assert (plain.patches, plain.encoder, plain.regions.taught, plain.frozen) == (None, None, "clusters", False)
    said = [
        PretrainConfig.from_mapping(each) for each in ({"encoder": ENCODER}, {"patches": {}}, {"patches": {}, "freeze_backbone": False})
    ]
    assert [each.regions for each in said] == [None, None, None]
    assert [each.frozen for each in said] == [False, True, False]
    assert PretrainConfig.from_mapping(plain.model_dump(mode="json")) == plain


def test_nothing_to_learn_is_refused(config):
    with pytest.raises(UsageError, match="nothing is learned"):
        with_tasks(config)


def test_looks_at_dev_tiles_are_refused(workspace, config):
    with pytest.raises(UsageError, match="evaluate_every = 8"):
        pretrain(workspace, config.model_copy(update={"schedule": config.schedule.model_copy(update={"evaluate_every": 8})}))


@pytest.mark.parametrize("before", [{"encoder": ENCODER}, {"regions": REGIONS}])
@pytest.mark.parametrize("after", [{"encoder": ENCODER}, {"regions": REGIONS | {"clusters": 2}}])
def test_it_goes_on_from_a_pre_trained_model(workspace, config, squares, before, after):
    first = pretrain(workspace, with_tasks(config, **before, name="first"))
    still = squares.schedule(images_seen=2, learning_rate=1e-12, backbone_learning_rate=1e-12, weight_decay=0.0)
    second = pretrain(workspace, PretrainConfig.from_mapping({"patches": None, **after, "schedule": still.model_dump(), "start": "first"}))
    stored = read_model(model_directory(workspace, second.model))
    assert (second.start, stored.config) == (first.model, config.detector)
    held, taken = (load_file(model_directory(workspace, each.model) / "model.safetensors") for each in (first, second))
    for name in ("encoder.projections.0.0.weight", "backbone.body.conv_stem.weight"):
        assert torch.allclose(held[name], taken[name], atol=1e-5)
    with workspace.session(write=False) as session:
        assert get_model(session, second.model).parent_id == get_model(session, "first").id


def test_patches_must_divide_the_slots_of_the_model_to_go_on_from(workspace, config):
    pretrain(workspace, config.model_copy(update={"name": "first"}))
    with pytest.raises(UsageError, match=r"patches.patches = 50 with detector.patch_slots = 20"):
        pretrain(workspace, PretrainConfig.from_mapping({"start": "first", "patches": {"patches": 50}}))


def test_it_goes_on_from_pre_trained_models_alone(workspace, config):
    with workspace.session() as session:
        add_model(session, name="tuned", stage="finetune", config={}, data_hash="0" * 64)
    with pytest.raises(BadInput, match="no pretrain model named 'tuned'"):
        pretrain(workspace, config.model_copy(update={"start": "tuned"}))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"freeze_backbone": True}, "freeze_backbone = true and detector.frozen_stages = 0"),
        ({"freeze_backbone": False, "detector": {"backbone_weights": "none"}}, "freeze_backbone = false and detector.frozen_stages = 3"),
        ({"detector": {"backbone_weights": "none"}}, "freeze_backbone = true and detector.frozen_stages = 3"),
    ],
)
def test_a_random_backbone_may_not_stay_random(config, values, found):
    plain = config.model_dump(exclude={"freeze_backbone"})
    with pytest.raises(UsageError, match=f"backbone_weights = 'none' with {found}") as refused:
        PretrainConfig.from_mapping(plain | values)
    assert "--set freeze_backbone=false --set detector.frozen_stages=0" in refused.value.remedy
    assert PretrainConfig.from_mapping(plain | values | {"start": "first"}).start == "first"
    assert PretrainConfig.from_mapping(plain | values | {"detector": {"backbone_weights": "packaged"}}).detector.frozen_stages == 3
