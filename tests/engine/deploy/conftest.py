"""Exports in the forms that are not the default, made once."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from engine.deploy.export import Exported, ExportOptions

    Form = tuple[ExportOptions, Exported, Path]


def _export(learned: SimpleNamespace, squares: ModuleType, directory: Path, options: ExportOptions) -> Form:
    import torch

    from engine.catalog.models import model_directory
    from engine.deploy.export import export_detector
    from engine.models.store import load_detector

    detector, _ = load_detector(model_directory(learned.workspace, learned.tuned.model))
    source = squares.samples(3)
    images = torch.stack([source.sample(index).image for index in range(3)])
    done = export_detector(detector, squares.LABELS, images, directory, model="other", threads=1, options=options)
    return options, done, directory


@pytest.fixture(scope="session")
def in_half(learned: SimpleNamespace, squares: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Form:
    """For TensorRT in half precision, with a graph that looks for patches of 32 px."""
    from engine.deploy.export import ExportOptions

    return _export(learned, squares, tmp_path_factory.mktemp("half") / "export", ExportOptions("tensorrt", "fp16", 32))


@pytest.fixture(scope="session")
def for_tensorrt(learned: SimpleNamespace, squares: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Form:
    """For TensorRT in full precision."""
    from engine.deploy.export import ExportOptions

    return _export(learned, squares, tmp_path_factory.mktemp("tensorrt") / "export", ExportOptions("tensorrt"))


@pytest.fixture(params=["in_half", "for_tensorrt"])
def in_other_forms(request: pytest.FixtureRequest) -> Form:
    """Each of them."""
    form: Form = request.getfixturevalue(request.param)
    return form
