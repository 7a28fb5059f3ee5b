"""Training runs of the workspace: who they are, whether they are done, and the model they leave behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.models import add_model, get_model, model_directory, models
from engine.catalog.schema import ModelRow
from engine.catalog.tiles import TileRecord
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, CheckpointRefused
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.store import read_model, save_model
from engine.pretext.taught_regions import RegionStore
from engine.training.checkpoint import CheckpointStore
from engine.training.loop import TrainingRun

__all__ = [
    "RunIdentity",
    "TrainingReport",
    "data_hash",
    "finish_run",
    "finished_report",
    "region_store",
    "run_checkpoints",
    "run_log",
    "stored_report",
]


def data_hash(tiles: Sequence[TileRecord], boxes: Mapping[int, Boxes]) -> str:
    """Hash of what a run learns from: the pixels of each tile and its boxes."""
    digest = hashlib.sha256()
    for tile in tiles:
        digest.update(tile.content_hash.encode())
        known = boxes.get(tile.id)
        digest.update(b"unlabelled" if known is None else len(known).to_bytes(4))
        if known is not None:
            digest.update(known.xyxy.tobytes() + known.labels.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class RunIdentity:
    """What makes two runs the same: then the second goes on where the first was stopped, or finds its model."""

    stage: str
    config: dict[str, Any]
    """the stage's configuration, its name left out"""
    data: str
    """from :func:`data_hash`"""
    parent: str | None
    """the model it starts from, by name and weights"""
    label_set: LabelSet

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits."""
        document = [self.stage, self.config, self.data, self.parent, list(self.label_set.names)]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]

    def name(self, given: str | None) -> str:
        """The model's name: the given one, or the stage and the fingerprint."""
        return given or f"{self.stage}-{self.fingerprint}"


@dataclass(frozen=True)
class TrainingReport:
    """What a training run learned from, how long it took, and the model it left."""

    model: str
    stage: str
    start: str | None
    """the model it started from; None for the backbone's weights alone"""
    tiles: int
    boxes: int
    images_seen: int
    seconds: float
    """spent in training, over all its parts where it was interrupted"""
    first_loss: float
    """mean of the first ten steps"""
    last_loss: float
    """mean of the last ten steps"""
    resumed_at_step: int
    """0 for a run in one go"""
    already_there: bool
    """the same run was finished before; nothing was trained"""
    passed_over: list[str] = field(default_factory=list)
    """checkpoints that were damaged or lost when the run was taken up again, and why"""
    precision: str = "fp32"
    """what forward passes ran in"""
    dev: list[list[float]] = field(default_factory=list)
    """images seen and AP, at every look at the dev tiles; the saved weights are those of the best"""
    stopped_early: bool = False
    """the dev AP had not risen for long"""
    unreadable: dict[str, str] = field(default_factory=dict)
    """tiles set aside, and why"""
    micro_batches: list[list[int]] = field(default_factory=list)
    """(step, micro-batch from there on) each time that memory ran out"""
    log: str = ""
    """folder of the log, relative to the workspace's"""


def region_store(workspace: Workspace, tiles: Sequence[TileRecord]) -> RegionStore:
    """Regions on these tiles, for all runs of the workspace."""
    return RegionStore(workspace.checkpoints / "regions", data_hash(tiles, {}))


def run_checkpoints(workspace: Workspace, identity: RunIdentity) -> CheckpointStore:
    """The checkpoints of this very run, whatever its model is called."""
    return CheckpointStore(workspace.checkpoints / f"{identity.stage}-{identity.fingerprint}")


def run_log(workspace: Workspace, identity: RunIdentity) -> Path:
    """The folder of the run's log; it stays when the run is done."""
    return workspace.reports / "training" / f"{identity.stage}-{identity.fingerprint}"


def stored_report(session: Session, name: str) -> TrainingReport:
    """What the training of the model ``name`` reported, whatever has been labelled since.

    Raises:
        BadInput: there is no such model.
    """
    report = dict(get_model(session, name).metrics["training"])
    report.pop("fingerprint")
    return TrainingReport(**{**report, "already_there": True})


def finished_report(workspace: Workspace, session: Session, identity: RunIdentity, name: str) -> TrainingReport | None:
    """The report of the run if it is finished and its model whole; None if it must be trained.

    Raises:
        BadInput: the name belongs to a model of another run, or cannot be a folder's.
    """
    directory = model_directory(workspace, name)
    rows = [row for row in models(session) if row.name == name]
    if not rows:
        return None
    report = dict(rows[0].metrics.get("training", {}))
    if report.pop("fingerprint", None) != identity.fingerprint:
        raise BadInput(
            f"the name {name!r} belongs to another model", expected="a name of its own for each run", remedy="Choose another --name"
        )
    try:
        read_model(directory)
    except CheckpointRefused:
        return None
    run_checkpoints(workspace, identity).remove()
    return TrainingReport(**{**report, "already_there": True})


def finish_run(
    workspace: Workspace,
    model: Detector,
    identity: RunIdentity,
    run: TrainingRun,
    *,
    name: str,
    parent: ModelRow | None,
    tiles: int,
    boxes: int,
    beside: Mapping[str, Path] | None = None,
) -> TrainingReport:
    """Save the model, register it, drop the checkpoints; in this order, so that a crash between them repeats only what is idempotent."""
    ends = [run.losses[:10], run.losses[-10:]]
    report = TrainingReport(
        model=name,
        stage=identity.stage,
        start=parent.name if parent else None,
        tiles=tiles,
        boxes=boxes,
        images_seen=run.images_seen,
        seconds=round(run.seconds, 2),
        first_loss=sum(ends[0]) / len(ends[0]),
        last_loss=sum(ends[1]) / len(ends[1]),
        resumed_at_step=run.resumed_at,
        already_there=False,
        passed_over=run.passed_over,
        precision=run.precision,
        dev=[list(look) for look in run.dev],
        stopped_early=run.stopped_early,
        unreadable=run.unreadable,
        micro_batches=[list(change) for change in run.micro_batches],
        log=str(run_log(workspace, identity).relative_to(workspace.root)),
    )
    told = {"config": identity.config, "data": identity.data, "parent": identity.parent, "fingerprint": identity.fingerprint}
    save_model(
        model_directory(workspace, name),
        model,
        stage=identity.stage,
        label_set=identity.label_set,
        metrics={**vars(report), "losses": run.losses},
        provenance={"workspace": workspace.identity, **told},
        beside=beside,
    )
    with workspace.session() as session:
        add_model(
            session,
            name=name,
            stage=identity.stage,
            config=identity.config,
            data_hash=identity.data,
            parent_id=parent.id if parent else None,
            label_set_fingerprint=identity.label_set.fingerprint if identity.stage == "finetune" else None,
            metrics={"training": {**vars(report), "fingerprint": identity.fingerprint}},
        )
        ledger.record(session, identity.stage, model=name, tiles=tiles, boxes=boxes, seconds=report.seconds)
    run_checkpoints(workspace, identity).remove()
    return report
