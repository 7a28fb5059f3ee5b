"""export: a folder below exports/ that detects what the model detects, or none."""

import shutil

import numpy as np
import pytest
import torch

from engine.catalog.ledger import events
from engine.catalog.models import model_directory
from engine.catalog.pixels import TilePixels, WorkspaceTiles
from engine.catalog.predictions import predictions_directory
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.deploy.export import Exported, ExportOptions
from engine.deploy.one_shot import load_one_shot
from engine.deploy.parity import Parity
from engine.deploy.runtime import available_threads, load_detector
from engine.errors import BadInput, ParityError, UsageError
from engine.inference.one_shot import detect_like, patch_feature
from engine.inference.predictions import Predictions
from engine.models.store import load_detector as load_model
from engine.stages import export as stage
from engine.stages.export import ExportConfig, export
from engine.stages.one_shot import OneShotTrainingConfig, one_shot
from engine.stages.predict import PredictConfig, predict
from engine.training.one_shot import OneShotConfig


def test_the_report_the_ledger_and_the_folder_agree(learned, exported):
    with learned.workspace.session(write=False) as session:
        event = events(session, "export")[0]
    assert (exported.report.export, exported.report.model) == (learned.tuned.model, learned.tuned.model)
    assert exported.report.directory == f"exports/{learned.tuned.model}"
    assert exported.report.bytes == sum(path.stat().st_size for path in exported.directory.iterdir())
    assert event.details["parity"] == exported.report.parity.worst <= 1e-3


def test_the_exported_model_sees_what_predict_sees(learned, exported):
    workspace = learned.workspace
    report = predict(workspace, PredictConfig(split="test", name="seen", score_threshold=0.3, iou_threshold=1.0, threads=1))
    seen = Predictions.load(predictions_directory(workspace, report.predictions))
    with workspace.session(write=False) as session:
        records = tiles(session, split="test")
    with TilePixels(workspace) as pixels:
        source = WorkspaceTiles(pixels, records, {}, 64)
        images = np.stack([source.image(index).permute(1, 2, 0).numpy() for index in range(len(records))])
    boxes, scores = load_detector(exported.directory, threads=1, device="cpu").run(images)
    assert report.boxes > 0
    for index, record in enumerate(records):
        strong = scores[index].max(-1) >= 0.3
        theirs = np.clip(boxes[index][strong], 0, 64)[np.argsort(-scores[index].max(-1)[strong])]
        assert np.allclose(seen.of_tile(record.id).xyxy, theirs, atol=0.1)


class Recorded:
    """Stands in for the export proper: notes its arguments, and fails if told to."""

    def __init__(self, error=None):
        self.error, self.calls = error, []

    def __call__(self, detector, label_set, images, directory, *, model, threads, options, finder):
        self.calls.append((images, directory, threads, options))
        if self.error:
            raise self.error
        directory.mkdir(exist_ok=True)
        return Exported(Parity(1, 0, 0.0, 0.0, len(images)), None)


@pytest.mark.parametrize(("asked", "used"), [(0, available_threads()), (1, 1)])
def test_no_number_of_threads_means_all_cores(learned, monkeypatch, asked, used):
    monkeypatch.setattr(stage, "export_detector", recorded := Recorded())
    export(learned.workspace, ExportConfig(name="threads", threads=asked))
    assert recorded.calls[0][2] == used


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"one_shot": True}, ExportOptions("onnxruntime", "fp32", 64)),
        ({"target": "tensorrt", "precision": "fp16", "one_shot": True, "patch_size": 96}, ExportOptions("tensorrt", "fp16", 96)),
        ({}, ExportOptions("onnxruntime", "fp32", None)),
    ],
)
def test_the_form_asked_for_is_the_form_exported(learned, monkeypatch, asked, options):
    monkeypatch.setattr(stage, "export_detector", recorded := Recorded())
    export(learned.workspace, ExportConfig(name="form", **asked))
    assert recorded.calls[0][3] == options


@pytest.mark.parametrize(("asked", "compared"), [(1, 1), (3, 3), (50, 7)])
def test_parity_is_measured_on_tiles_spread_over_the_workspace(learned, monkeypatch, asked, compared):
    monkeypatch.setattr(stage, "export_detector", recorded := Recorded())
    export(learned.workspace, ExportConfig(name="tiles", parity_tiles=asked))
    images = recorded.calls[0][0]
    assert images.shape == (compared, 3, 64, 64)
    assert len({image.numpy().tobytes() for image in images}) == compared


def test_a_refused_export_is_not_in_the_ledger(learned, exported, monkeypatch):
    monkeypatch.setattr(stage, "export_detector", Recorded(ParityError("ONNX Runtime differs")))
    with pytest.raises(ParityError):
        export(learned.workspace, ExportConfig(name="refused"))
    with learned.workspace.session(write=False) as session:
        assert "refused" not in [event.details["export"] for event in events(session, "export")]
    assert not (learned.workspace.exports / "refused").exists()


@pytest.mark.parametrize("name", [".", "..", "../models", "a/b", "/x"])
def test_a_name_that_cannot_be_a_folder_is_refused(learned, exported, name):
    """Above all ".": it would replace all exports by one."""
    before = sorted(learned.workspace.exports.iterdir())
    with pytest.raises(BadInput, match="of an export"):
        export(learned.workspace, ExportConfig(name=name))
    assert sorted(learned.workspace.exports.iterdir()) == before


def test_only_a_fine_tuned_model_can_be_exported(learned, tmp_path):
    with pytest.raises(BadInput, match=f"no finetune model named '{learned.pretrained.model}'"):
        export(learned.workspace, ExportConfig(model=learned.pretrained.model))
    with Workspace.create(tmp_path / "workspace") as empty, pytest.raises(BadInput, match="tilehawk finetune"):
        export(empty, ExportConfig())


@pytest.fixture
def copy(learned, tmp_path):
    shutil.copytree(learned.workspace.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        yield workspace


def asked(workspace, squares, **changes):
    detector = squares.TINY.model_copy(update=changes)
    config = {"schedule": squares.schedule(images_seen=2), "detector": detector, "asked": OneShotConfig(patch_size=32), "start": "scratch"}
    return one_shot(workspace, OneShotTrainingConfig(**config)).model


def test_the_newest_one_shot_model_is_exported_beside_the_detector(copy, squares):
    name = asked(copy, squares)
    report = export(copy, ExportConfig(name="pair", parity_tiles=2, patch_size=32, threads=1))
    assert report.one_shot.worst <= 1e-3
    finder = load_one_shot(copy.root / report.directory, threads=1, device="cpu")
    images = np.stack([squares.picture(seed)[0] for seed in range(2)])
    patch = images[0][:32, :32]
    boxes, scores = finder.run(images, patch)
    model, _ = load_model(model_directory(copy, name))
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    ours = detect_like(model, planes, patch_feature(model, torch.from_numpy(patch).permute(2, 0, 1)[None].float() / 255)[0])
    assert np.allclose(np.sort(scores, 1), np.sort(ours.matched.numpy(), 1), atol=1e-3)
    assert boxes.shape == (2, 20, 4)


def test_a_one_shot_model_for_other_tiles_or_none_of_that_name_is_refused(copy, squares):
    name = asked(copy, squares, image_size=96)
    with pytest.raises(UsageError, match=f"{name}.*96 px beside .* 64 px"):
        export(copy, ExportConfig(name="pair", threads=1))
    assert not (copy.exports / "pair").exists()
    with pytest.raises(BadInput, match="no one-shot model named"):
        export(copy, ExportConfig(one_shot_model="x", threads=1))
    report = export(copy, ExportConfig(name="alone", one_shot=False, parity_tiles=2, threads=1))
    assert report.one_shot is None
