"""Export: what runs in ONNX Runtime is what torch computes, or nothing is left behind."""

import json

import onnx
import pytest
import torch
from torchvision.ops import box_convert

from engine.catalog.models import model_directory
from engine.deploy.export import LAYERS, TOLERANCE, ExportOptions, export_detector
from engine.deploy.graph import REFUSED_BY_TENSORRT, ExportableDetector, operators
from engine.deploy.one_shot import load_one_shot
from engine.deploy.parity import COMPARED_AT_LEAST, measure_parity
from engine.deploy.runtime import load_detector
from engine.errors import ParityError
from engine.files import sha256_of
from engine.models import store
from engine.models.one_shot import describe_patches, find_patch

TILE = 64


def pictures(squares, count):
    source = squares.samples(count)
    return torch.stack([source.sample(index).image for index in range(count)])


def test_parity_holds_and_is_not_about_nothing(exported):
    parity = exported.report.parity
    assert parity.images == 3
    assert parity.detections >= 3 * 2 * COMPARED_AT_LEAST
    assert parity.unmatched == 0
    assert parity.worst <= TOLERANCE["fp32"] == 1e-3


def test_the_folder_says_what_it_holds(exported, squares):
    document = json.loads((exported.directory / "export.json").read_text())
    assert sorted(path.name for path in exported.directory.iterdir()) == ["export.json", "model.onnx"]
    assert (document["model"], document["tile"], document["classes"]) == (exported.report.model, TILE, ["red", "green"])
    assert document["fingerprint"] == squares.LABELS.fingerprint
    assert document["sha256"] == sha256_of(exported.directory / "model.onnx")
    assert (document["target"], document["precision"], document["opset"]) == ("onnxruntime", "fp32", 18)
    assert document["parity"] == vars(exported.report.parity)
    assert "one_shot" not in document


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_runs_and_says_what_torch_says(exported, learned, squares, batch):
    detector, _ = store.load_detector(model_directory(learned.workspace, exported.report.model))
    images = pictures(squares, batch)
    boxes, scores = load_detector(exported.directory, threads=1, device="cpu").run(images.permute(0, 2, 3, 1).numpy())
    with torch.inference_mode():
        ours = tuple(part.numpy() for part in ExportableDetector(detector)(images.float() / 255))
    assert boxes.shape == (batch, 20, 4)
    assert scores.shape == (batch, 20, 2)
    assert measure_parity(ours, (boxes, scores), TILE).worst < 1e-3


@pytest.mark.parametrize("linked", [True, False])
def test_layers_that_were_found_stay_when_the_model_is_exported_again(squares, tmp_path, monkeypatch, linked):
    def unlinkable(source, target):
        raise PermissionError(1, "no hard links here")

    if not linked:
        monkeypatch.setattr("os.link", unlinkable)
    layer = tmp_path / "cells" / LAYERS / "1-roof" / "roof.geojson"
    for precision in ("fp32", "fp16"):
        options = ExportOptions(precision=precision)
        export_detector(
            squares.Cells(), squares.LABELS, pictures(squares, 2), tmp_path / "cells", model="cells", threads=1, options=options
        )
        if precision == "fp32":
            layer.parent.mkdir(parents=True)
            layer.write_text("hours of work")
    assert json.loads((tmp_path / "cells" / "export.json").read_text())["precision"] == "fp16"
    assert layer.read_text() == "hours of work"
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_a_graph_that_computes_something_else_leaves_nothing_behind(squares, tmp_path):
    honest = export_detector(squares.Cells(), squares.LABELS, pictures(squares, 2), tmp_path / "cells", model="cells", threads=1)
    assert honest.detector.worst < 1e-5
    assert honest.one_shot is None
    before = {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    for target in ("cells", "fresh"):
        with pytest.raises(ParityError, match=r"differs from torch by 0\.0\d+ over \d+ detections, 0 unmatched"):
            export_detector(squares.Cells(lie=0.1), squares.LABELS, pictures(squares, 2), tmp_path / target, model="cells", threads=1)
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "cells").iterdir()} == before


def test_every_form_is_proved_within_its_tolerance(in_other_forms):
    options, done, directory = in_other_forms
    assert done.detector.detections >= 3 * 2 * COMPARED_AT_LEAST
    assert 0 < done.detector.worst <= TOLERANCE[options.precision]
    assert (done.detector.worst <= TOLERANCE["fp32"]) or options.precision == "fp16"
    assert (done.one_shot is None) == (options.one_shot_patch is None) == (not (directory / "one_shot.onnx").exists())


def test_graphs_for_tensorrt_hold_nothing_that_it_computes_wrong(in_other_forms, exported):
    for graph in in_other_forms[2].glob("*.onnx"):
        assert not operators(graph) & REFUSED_BY_TENSORRT
    assert operators(exported.directory / "model.onnx") & REFUSED_BY_TENSORRT == {"GridSample"}


def test_half_precision_halves_the_weights_and_keeps_inputs_and_outputs(in_other_forms):
    options, _, directory = in_other_forms
    graph = onnx.load(directory / "model.onnx").graph
    types = {each.name: each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)}
    assert types == dict.fromkeys(["image", "boxes", "scores"], onnx.TensorProto.FLOAT)
    halves = sum(weight.data_type == onnx.TensorProto.FLOAT16 for weight in graph.initializer)
    assert (halves > 0) == (options.precision == "fp16")


def test_one_shot_in_onnx_runtime_finds_what_torch_finds(learned, exported, squares, in_half):
    """Within half precision, for which the graph is."""
    _, done, directory = in_half
    detector, _ = store.load_detector(model_directory(learned.workspace, exported.report.model))
    images, patch = pictures(squares, 5), pictures(squares, 6)[5, :, 16:48, 16:48]
    theirs = load_one_shot(directory, threads=1, device="cpu").run(images.permute(0, 2, 3, 1).numpy(), patch.permute(1, 2, 0).numpy())
    with torch.inference_mode():
        found = find_patch(detector, images.float() / 255, describe_patches(detector, patch[None].float() / 255)[0])
    corners = box_convert(found.boxes, "cxcywh", "xyxy") * TILE
    assert theirs[0].shape == (5, 20, 4)
    parity = measure_parity((corners.numpy(), found.matched[..., None].numpy()), (theirs[0], theirs[1][..., None]), TILE)
    assert parity.worst <= TOLERANCE["fp16"]
    document = json.loads((directory / "export.json").read_text())
    assert document["one_shot"]["patch"] == 32
    assert document["one_shot"]["sha256"] == sha256_of(directory / "one_shot.onnx")
    assert document["one_shot"]["parity"] == vars(done.one_shot)
