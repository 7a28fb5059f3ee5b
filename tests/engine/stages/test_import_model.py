"""A model of another workspace is taken in as what it is, works here, and is refused whole where it does not hold."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from engine.catalog.ledger import events
from engine.catalog.models import get_model, model_directory, models
from engine.catalog.rounds import add_round
from engine.catalog.summary import summarize
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, CheckpointRefused, LabelSetMismatch
from engine.files import sha256_of
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.store import MANIFEST, WEIGHTS, read_model, save_model
from engine.pretext.tokenizer import TOKENIZER, Tokenizer
from engine.stages.finetune import FinetuneConfig, finetune
from engine.stages.import_model import ImportModelConfig, import_model
from engine.stages.predict import PredictConfig, predict
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.stages.search import SearchConfig, search

CONFIG = ImportModelConfig()


@pytest.fixture(scope="module")
def elsewhere(squares, fake, tmp_path_factory):
    """Another workspace with other scenes: "base" is pre-trained there, "tuned" fine-tuned on the same classes."""
    with Workspace.create(tmp_path_factory.mktemp("elsewhere") / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene, scenes=(("foreign", "train", 192), ("dev", "dev", 64)))
        brief = {"schedule": squares.schedule(images_seen=2).model_dump(), "detector": squares.TINY.model_dump()}
        taught = {"encoder": {"task": "mim-discrete", "patch": 32, "vocabulary": 4}, "patches": None, "freeze_backbone": False}
        pretrain(made, PretrainConfig.from_mapping(brief | taught | {"name": "base"}))
        finetune(made, FinetuneConfig.from_mapping(brief | {"name": "tuned", "start": "scratch"}))
        yield made


@pytest.fixture
def base(elsewhere):
    return elsewhere.models / "base"


@pytest.fixture
def workspace(squares, fake, tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        yield made


def untouched(workspace):
    """Nothing of a model is in the workspace."""
    with workspace.session(write=False) as session:
        return not models(session) and not events(session, "import_model") and not list(workspace.models.iterdir())


def test_it_is_what_it_was_and_says_where_it_comes_from(elsewhere, workspace, base):
    report = import_model(workspace, base, CONFIG)
    ours, theirs = read_model(model_directory(workspace, "base")), read_model(base)
    assert (report.model, report.stage, report.classes, report.trained_in) == ("base", "pretrain", [], elsewhere.identity)
    assert (report.tokenizer, report.already_there, report.next) == (True, False, "tilehawk finetune --from base")
    assert (ours.stage, ours.config, ours.label_set) == (theirs.stage, theirs.config, theirs.label_set)
    assert (ours.directory / WEIGHTS).read_bytes() == (base / WEIGHTS).read_bytes()
    assert ours.manifest["provenance"].keys() == {"imported"}
    origin = ours.manifest["provenance"]["imported"]
    assert (origin["model"], origin["workspace"], origin["provenance"]) == ("base", elsewhere.identity, theirs.manifest["provenance"])
    with workspace.session(write=False) as session:
        row, [event] = get_model(session, "base"), events(session, "import_model")
    assert (row.parent_id, row.metrics.keys(), row.metrics["imported"]["workspace"]) == (None, {"imported"}, elsewhere.identity)
    assert (event.details["model"], event.details["from"], event.details["sha256"]) == ("base", "base", report.sha256)


def test_fine_tuning_search_and_prediction_work_with_it(workspace, base, squares):
    import_model(workspace, base, ImportModelConfig(name="foreign"))
    tuned = finetune(workspace, FinetuneConfig(schedule=squares.schedule(images_seen=2, learning_rate=1e-12), start="foreign"))
    assert tuned.start == "foreign"
    held, learned = (load_file(folder / WEIGHTS) for folder in (base, model_directory(workspace, tuned.model)))
    name = "encoder.projections.0.0.weight"
    assert torch.allclose(held[name], learned[name], atol=1e-5)
    with workspace.session(write=False) as session:
        tile = tiles(session, split="train")[0].id
    found = search(workspace, SearchConfig(tile=tile, box=(2, 2, 24, 24), threads=1))
    assert (found.model, found.hits > 0) == ("foreign", True)
    assert predict(workspace, PredictConfig(model="foreign", split="test", threads=1)).tiles == 2


def test_pre_training_goes_on_from_it_on_the_tiles_that_are_here(workspace, base, squares):
    import_model(workspace, base, CONFIG)
    brief = squares.schedule(images_seen=2)
    report = pretrain(workspace, PretrainConfig(start="base", schedule=brief, patches=squares.PATCHES, freeze_backbone=True))
    name = "backbone.body.conv_stem.weight"
    held, learned = (load_file(folder / WEIGHTS) for folder in (base, model_directory(workspace, report.model)))
    assert (report.start, report.tiles, torch.equal(held[name], learned[name])) == ("base", 4, True)


def test_a_detector_of_the_same_classes_is_one_of_ours(elsewhere, workspace):
    report = import_model(workspace, elsewhere.models / "tuned", CONFIG)
    assert (report.stage, report.classes, report.tokenizer) == ("finetune", ["red", "green"], False)
    assert predict(workspace, PredictConfig(split="test", threads=1)).model == "tuned"


@pytest.mark.guarantee("G31")
def test_a_detector_of_other_classes_is_refused_by_name(workspace, squares, tmp_path):
    names = LabelSet.of(["red", "blue"])
    save_model(tmp_path / "blue", Detector(squares.TINY, 2), stage="finetune", label_set=names, metrics={}, provenance={})
    with pytest.raises(LabelSetMismatch, match=r"the model blue lacks \['green'\]"):
        import_model(workspace, tmp_path / "blue", CONFIG)
    assert untouched(workspace)


def test_a_workspace_without_classes_takes_any_and_fine_tuning_asks_later(elsewhere, tmp_path):
    with Workspace.create(tmp_path / "new") as new:
        assert import_model(new, elsewhere.models / "tuned", CONFIG).classes == ["red", "green"]


def test_the_same_again_changes_nothing_and_another_needs_a_name_of_its_own(elsewhere, workspace, base):
    first = import_model(workspace, base, CONFIG)
    again = import_model(workspace, base, CONFIG)
    assert (again.already_there, again.sha256) == (True, first.sha256)
    with pytest.raises(BadInput, match="the name 'base' belongs to another model"):
        import_model(workspace, elsewhere.models / "tuned", ImportModelConfig(name="base"))
    with workspace.session(write=False) as session:
        assert len(events(session, "import_model")) == 1


def test_one_that_was_damaged_here_is_brought_in_again(workspace, base):
    import_model(workspace, base, CONFIG)
    (model_directory(workspace, "base") / WEIGHTS).unlink()
    assert not import_model(workspace, base, CONFIG).already_there
    assert read_model(model_directory(workspace, "base")).stage == "pretrain"


def test_a_name_of_a_run_here_is_not_taken_over(elsewhere, base):
    with pytest.raises(BadInput, match="base is a model of this workspace"):
        import_model(elsewhere, base, CONFIG)
    copy = shutil.copytree(base, elsewhere.root.parent / "copies" / "base")
    with pytest.raises(BadInput, match="the name 'base' belongs to another model"):
        import_model(elsewhere, copy, CONFIG)


def test_brought_on_it_still_says_where_it_was_trained(elsewhere, workspace, base, tmp_path):
    import_model(workspace, base, CONFIG)
    with Workspace.create(tmp_path / "third") as third:
        assert import_model(third, model_directory(workspace, "base"), CONFIG).trained_in == elsewhere.identity


def test_weights_of_a_backbone_that_are_not_here_are_not_asked_for(workspace, squares, tmp_path):
    model = Detector(squares.TINY, 0)
    model.config = squares.TINY.model_copy(update={"backbone_weights": "resnet50-0123456789ab.safetensors"})
    save_model(tmp_path / "base", model, stage="pretrain", label_set=LabelSet(()), metrics={}, provenance={})
    report = import_model(workspace, tmp_path / "base", CONFIG)
    assert (report.trained_in, read_model(model_directory(workspace, "base")).config.backbone_weights) == (None, "none")
    assert finetune(workspace, FinetuneConfig(schedule=squares.schedule(images_seen=2), start="base")).start == "base"


def test_its_vocabulary_stays_one_of_another_workspace(elsewhere, workspace, base, squares):
    import_model(workspace, base, CONFIG)
    path = model_directory(workspace, "base") / TOKENIZER
    assert path.read_bytes() == (base / TOKENIZER).read_bytes()
    with pytest.raises(CheckpointRefused, match=f"a tokenizer of {elsewhere.identity}"):
        Tokenizer.load(path, network=Detector(squares.TINY, 0), origin=workspace.identity)


def test_no_round_has_bought_it(elsewhere, workspace):
    with workspace.session() as session:
        bought = add_round(session, budget_seconds=1.0, strategy="random", seed=0, chosen=[])
        bought.measured_seconds = 1.0
    import_model(workspace, elsewhere.models / "tuned", CONFIG)
    with workspace.session() as session:
        row = get_model(session, "tuned")
        row.metrics = {**row.metrics, "test": {"ap": 0.5, "ap50": 0.75}}
    assert [each.metrics for each in summarize(workspace).rounds] == [{}]


def lie(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])


def lead_out(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"]["../base/config.json"] = sha256_of(folder / "config.json")
    (folder / MANIFEST).write_text(json.dumps(manifest))


def link(folder):
    (folder / WEIGHTS).rename(folder.parent / "other.safetensors")
    (folder / WEIGHTS).symlink_to(folder.parent / "other.safetensors")


def nest(folder):
    """As deep as can just be read, but not be written again."""
    plain = (folder / MANIFEST).read_text()
    for depth in range(1000, 0, -2):
        (folder / MANIFEST).write_text(plain.replace('"workspace"', f'"deep": {"[" * depth}{"]" * depth}, "workspace"'))
        try:
            read_model(folder)
        except CheckpointRefused:
            continue
        return


@pytest.mark.guarantee("G31", "G32")
@pytest.mark.parametrize("harm", [lie, lead_out, link, nest])
def test_a_folder_that_does_not_hold_leaves_nothing(workspace, base, tmp_path, harm):
    copy = shutil.copytree(base, tmp_path / "copy" / "base")
    harm(copy)
    with pytest.raises(CheckpointRefused):
        import_model(workspace, copy, CONFIG)
    assert untouched(workspace)


@pytest.mark.parametrize("identity", ["<img src=x>", ["a"], {"workspace": 1}, 7, "F" * 32])
def test_an_origin_is_an_identity_or_nothing(workspace, base, tmp_path, identity):
    copy = shutil.copytree(base, tmp_path / "copy" / "base")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["provenance"]["workspace"] = identity
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert import_model(workspace, copy, CONFIG).trained_in is None


@pytest.mark.parametrize("name", ["../base", "a/b", ".hidden", ""])
def test_a_name_that_is_none_is_refused(workspace, base, name):
    with pytest.raises(BadInput, match="the model name"):
        import_model(workspace, base, ImportModelConfig(name=name))
    assert untouched(workspace)
