"""A one-shot graph that is missing, damaged or another is refused before it runs."""

import json
import shutil

import numpy as np
import pytest

from engine.deploy.one_shot import load_one_shot
from engine.errors import CheckpointRefused


@pytest.fixture
def copy(in_half, tmp_path):
    return shutil.copytree(in_half[2], tmp_path / "copy")


def describe(folder, **changes):
    path = folder / "export.json"
    document = json.loads(path.read_text())
    document["one_shot"] |= changes
    path.write_text(json.dumps(document))


def test_a_missing_graph_is_named(copy):
    (copy / "one_shot.onnx").unlink()
    with pytest.raises(CheckpointRefused, match="holds no one-shot graph"):
        load_one_shot(copy, threads=1)


def test_a_changed_graph_is_refused(copy):
    content = bytearray((copy / "one_shot.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "one_shot.onnx").write_bytes(content)
    with pytest.raises(CheckpointRefused, match="SHA-256"):
        load_one_shot(copy, threads=1)


def test_a_patch_size_that_is_not_the_graphs_is_refused(copy):
    describe(copy, patch=96)
    with pytest.raises(CheckpointRefused, match="takes"):
        load_one_shot(copy, threads=1, device="cpu")


def test_a_picture_of_another_size_is_refused(copy):
    finder = load_one_shot(copy, threads=1, device="cpu")
    assert (finder.tile, finder.patch) == (64, 32)
    with pytest.raises(CheckpointRefused, match="fails in ONNX Runtime"):
        finder.run(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8))
