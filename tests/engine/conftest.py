"""What the tests of training and of trained models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def squares(fake: Callable[[str], ModuleType]) -> Iterator[ModuleType]:
    """The fake ``squares``, with torch on one thread as long as it is used."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield fake("squares")
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def stop_at(fake: Callable[[str], ModuleType]) -> type:
    """``stop_at(images)`` is a progress that cancels there."""
    cancels: type = fake("training").StopAt
    return cancels


@pytest.fixture(scope="session")
def learned(squares: ModuleType, fake: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A workspace of squares with a pre-trained and a fine-tuned model, and their reports; to read from, and to add predictions to."""
    from engine.catalog.workspace import Workspace
    from engine.stages.finetune import FinetuneConfig, finetune
    from engine.stages.pretrain import PretrainConfig, pretrain

    brief = squares.schedule(images_seen=8)
    long = squares.schedule(images_seen=320, batch_size=4, learning_rate=3e-3, backbone_learning_rate=3e-3)
    with Workspace.create(tmp_path_factory.mktemp("learned") / "workspace") as workspace:
        squares.fill(workspace, fake("catalog").add_scene)
        untaught = PretrainConfig(schedule=brief, patches=squares.PATCHES, detector=squares.TINY, freeze_backbone=False)
        pretrained = pretrain(workspace, untaught)
        config = FinetuneConfig(schedule=long, detector=squares.TINY, start="scratch")
        yield SimpleNamespace(workspace=workspace, pretrained=pretrained, config=config, tuned=finetune(workspace, config))


@pytest.fixture(scope="session")
def exported(learned: SimpleNamespace) -> SimpleNamespace:
    """The fine-tuned model's export: its report and its folder."""
    from engine.stages.export import ExportConfig, export

    report = export(learned.workspace, ExportConfig(parity_tiles=3, threads=1))
    return SimpleNamespace(report=report, directory=learned.workspace.root / report.directory)
