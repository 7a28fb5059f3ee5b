"""Layers of every scene, with an exported model that finds bright squares."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from app import downloads
from app.workflows.layers import LayersConfig, write_scene_layers
from engine.catalog.workspace import Workspace
from engine.deploy import export
from engine.errors import BadInput, Cancelled, NothingToDo, UsageError
from engine.stages.ingest import IngestConfig, ingest


@pytest.fixture
def workspace(tmp_path):
    """Two scenes, the second with a bright square."""
    for number in range(2):
        pixels = np.zeros((128, 128, 3), dtype=np.uint8)
        if number:
            pixels[32:48, 32:48] = 255
        (tmp_path / "imagery").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "imagery" / f"scene {number}.png")
    with Workspace.create(tmp_path / "workspace") as made:
        ingest(made, tmp_path / "imagery", IngestConfig(tile=64, overlap=0, minimum_valid_share=0))
        yield made


@pytest.fixture
def exported(workspace, fake):
    fake("bright_squares").write_export(workspace.exports / "squares")
    return workspace


def test_every_scene_gets_its_layers_below_the_export(exported):
    said = []
    report = write_scene_layers(exported, LayersConfig(overlap=16), progress=lambda *values: said.append(values))
    assert (report["export"], report["scenes"]) == ("squares", 2)
    folder = exported.exports / "squares"
    assert sorted(path.name for path in (folder / "layers").iterdir()) == ["1-scene 0", "2-scene 1"]
    assert all((folder / file).is_file() for file in report["files"])
    counts = [len(json.loads(path.read_text())["features"]) for path in sorted(folder.rglob("*.geojson"))]
    assert sum(counts) == report["boxes"] > 0
    assert said[-1][:2] == (2, 2)


def test_layers_lie_where_a_new_export_keeps_them():
    assert downloads.LAYERS == export.LAYERS


def test_a_scene_can_be_named(exported):
    report = write_scene_layers(exported, LayersConfig(overlap=16, scenes=(2,), formats="coco"))
    assert report["files"] == ["layers/2-scene 1/scene 1.coco.json"]


def test_scenes_that_were_unpacked_are_called_as_in_their_archive(tmp_path, fake):
    Image.fromarray(np.full((128, 128, 3), 255, dtype=np.uint8)).save(tmp_path / "roof.png")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "roof.png", "north/roof.png")
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, tmp_path / "archive.zip", IngestConfig(tile=64, overlap=0, minimum_valid_share=0))
        fake("bright_squares").write_export(workspace.exports / "squares")
        report = write_scene_layers(workspace, LayersConfig(overlap=16, formats="geojson,coco"))
        layers, coco = (json.loads((workspace.exports / "squares" / file).read_text()) for file in report["files"])
    assert report["files"] == ["layers/1-roof/roof.geojson", "layers/1-roof/roof.coco.json"]
    assert layers["scene"] == "north/roof.png"
    assert [each["file_name"] for each in coco["images"]] == ["north/roof.png"]


@pytest.mark.parametrize(
    ("config", "error"),
    [({"export": "other"}, BadInput), ({"scenes": (9,)}, BadInput), ({"formats": "shp"}, UsageError)],
)
def test_what_is_not_there_is_named(exported, config, error):
    with pytest.raises(error):
        write_scene_layers(exported, LayersConfig(**config))


def test_without_an_export_it_says_what_to_do(workspace):
    with pytest.raises(NothingToDo, match="tilehawk export"):
        write_scene_layers(workspace, LayersConfig())


def test_cancelled_between_scenes_the_finished_ones_stay(exported):
    def stop(done, total, message):
        if done == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        write_scene_layers(exported, LayersConfig(overlap=16), progress=stop)
    assert [path.name for path in (exported.exports / "squares" / "layers").iterdir()] == ["1-scene 0"]
