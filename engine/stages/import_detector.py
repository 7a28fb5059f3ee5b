"""``models import-detector``: a published detection transformer, brought into the workspace as a model to fine-tune from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.catalog import ledger
from engine.catalog.models import add_model, model_directory, models
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput
from engine.files import sha256_of
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.import_names import load_imported
from engine.models.published import recognise
from engine.models.store import save_model
from engine.models.weight_files import read_tensors
from engine.progress import Progress, silent
from engine.training.loop import seeded

__all__ = ["ImportDetectorConfig", "ImportedDetector", "import_detector"]


class ImportDetectorConfig(StageConfig):
    """How a published detector is taken."""

    name: str | None = None
    """Name of the model; none for one made from the file's content."""
    backbone: str | None = None
    """Timm's name of its backbone; a ResNet-18, -34, -50 or -101 is recognised."""


@dataclass(frozen=True)
class ImportedDetector:
    """What was brought in."""

    model: str
    architecture: str
    backbone: str
    encoder_layers: int
    decoder_layers: int
    tensors: int
    """taken over"""
    fresh: list[str]
    """tensors that the file does not have: they start anew"""
    unused: list[str]
    """tensors of the file, under our names, that are left out: the heads for its classes, and what leads to them"""
    sha256: str
    next: str


def import_detector(
    workspace: Workspace, file: Path, config: ImportDetectorConfig, *, allow_pickle: bool = False, progress: Progress = silent
) -> ImportedDetector:
    """Make a model of a file of DETR, UP-DETR or Deformable DETR; fine-tuning starts from it with heads for the workspace's classes.

    The same file again makes the same model.

    Args:
        workspace: where the model goes.
        file: safetensors, or with ``allow_pickle`` what torch saved.
        config: its name, and its backbone where that cannot be recognised.
        allow_pickle: tensors may be read from a pickle, and nothing else; only a person on the command line says so.
        progress: told at the start and the end.

    Raises:
        CheckpointRefused: damaged, none of these detectors, or not all of its transformer and backbone is there.
        UsageError: the backbone must be stated, or a pickle is not allowed.
        BadInput: the name belongs to another model.
    """
    progress(0, 1, file.name)
    published = recognise(read_tensors(file, allow_pickle=allow_pickle), file=file.name, backbone=config.backbone)
    digest = sha256_of(file)
    name = config.name or f"imported-{digest[:12]}"
    directory = model_directory(workspace, name)
    with workspace.session(write=False) as session:
        if any(row.name == name and row.data_hash != digest for row in models(session)):
            raise BadInput(f"the name {name!r} belongs to another model", expected="a name of its own", remedy="Choose another --name")
    with seeded(0):
        model = Detector(published.config, 0)
    imported = load_imported(model, published.weights, classes=False)
    said = {"file": file.name, "sha256": digest}
    save_model(directory, model, stage="pretrain", label_set=LabelSet(()), metrics={}, provenance={"imported": said})
    described = published.config.model_dump(mode="json")
    with workspace.session() as session:
        add_model(session, name=name, stage="pretrain", config={"detector": described}, data_hash=digest)
        ledger.record(session, "import_detector", model=name, **said)
    progress(1, 1, name)
    return ImportedDetector(
        model=name,
        architecture=published.config.architecture,
        backbone=published.config.backbone,
        encoder_layers=published.config.encoder_layers,
        decoder_layers=published.config.decoder_layers,
        tensors=len(imported.taken),
        fresh=list(imported.fresh),
        unused=list(imported.unused),
        sha256=digest,
        next=f"tilehawk finetune --from {name}",
    )
