"""What a step that went wrong leaves behind."""

import json

import pytest
import torch
from safetensors.torch import load_file

from engine.training import faults
from engine.training.batches import Batch, BatchLoader
from engine.training.data import Sample
from engine.training.faults import NotFinite, is_out_of_memory, refuse_not_finite, write_bundle
from engine.training.schedule import plan_steps


@pytest.fixture(scope="module")
def small(fake):
    return fake("training")


@pytest.fixture
def batch(small):
    config = small.schedule()
    return BatchLoader(small.tiles(5), config, plan_steps(config), {}).batch(2)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shapes do not agree"), False),
        (MemoryError(), False),
    ],
)
def test_lack_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.guarantee("G29")
def test_the_bundle_holds_the_very_batch(tmp_path, batch):
    folder = write_bundle(tmp_path, batch, {"names": ["a"], "seed": 3})
    document, tensors = json.loads((folder / "bundle.json").read_text()), load_file(folder / "batch.safetensors")
    assert document == {"step": 2, "tiles": batch.tiles, "images": 4, "images_kept": 4, "names": ["a"], "seed": 3}
    for number, sample in enumerate(batch.samples):
        for name, tensor in zip(("image", "boxes", "labels"), sample[:3], strict=True):
            assert torch.equal(tensors[f"{name}.{number}"], tensor)
    assert torch.equal(tensors["random_state"], batch.random_state)


@pytest.mark.guarantee("G29")
def test_a_bundle_stays_below_fifty_megabytes(tmp_path):
    large = Sample(torch.zeros(3, 2000, 2000, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    batch = Batch(7, [large] * 5, list(range(5)), torch.Generator().get_state())
    folder = write_bundle(tmp_path, batch, {})
    assert sum(path.stat().st_size for path in folder.iterdir()) < 50_000_000
    assert json.loads((folder / "bundle.json").read_text())["images_kept"] == 3
    assert faults.BUNDLE_BYTES < 50_000_000


def test_the_error_names_step_parts_tiles_and_bundle(tmp_path, batch):
    fault = NotFinite("loss", torch.nan, {"classes": torch.nan, "distance": 1.0})
    said = str(refuse_not_finite(fault, batch, ["a.png", "b.png"], tmp_path / "bundle"))
    assert "the loss is nan at step 2 (parts ['classes']), on the tiles a.png, b.png" in said
    assert str(tmp_path / "bundle") in said
