"""``models import``: a model of another Tilehawk workspace, brought into this one to search with or to fine-tune from."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from engine.catalog import ledger
from engine.catalog.annotations import label_set
from engine.catalog.models import add_model, model_directory, models
from engine.catalog.schema import LabelSetRow
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import BadInput, CheckpointRefused
from engine.models.detector import Detector
from engine.models.foreign import load_foreign
from engine.models.store import StoredModel, read_model, save_model
from engine.pretext.tokenizer import TOKENIZER
from engine.progress import Progress, silent

__all__ = ["ImportModelConfig", "ImportedModel", "import_model"]

BESIDE = frozenset({TOKENIZER})
IDENTITY = re.compile(r"[0-9a-f]{32}")
NEXT = {"pretrain": "finetune --from", "finetune": "predict --model", "one-shot": "search --query TILE:X,Y,W,H --model"}


class ImportModelConfig(StageConfig):
    """How a model of another workspace is taken."""

    name: str | None = None
    """Name of the model here; none for the name of its folder."""


@dataclass(frozen=True)
class ImportedModel:
    """What was brought in."""

    model: str
    stage: str
    """pretrain, finetune or one-shot, as it was trained there"""
    classes: list[str]
    """that it speaks of: of a fine-tuned model those of this workspace, of a pre-trained one what it told apart"""
    architecture: str
    backbone: str
    tokenizer: bool
    """whether its vocabulary came along; no run of this workspace takes it, for it is of other tiles"""
    trained_in: str | None
    """the workspace where it was trained, by its identity; None where the model does not say"""
    sha256: str
    """of what its manifest vouches for"""
    already_there: bool
    """it had been brought in before; nothing was written"""
    next: str


def import_model(workspace: Workspace, folder: Path, config: ImportModelConfig, *, progress: Progress = silent) -> ImportedModel:
    """Take over a model that another workspace trained, here or on another machine; the same model again leaves the workspace as it is.

    Nothing of the folder is believed before it was checked, and nothing is left here of one that is refused. The weights are written anew
    from the tensors that were checked. Where it was trained, and how, stays in the manifest; its metrics are left behind, for they were
    measured on other ground. A fine-tuned model must speak of the classes of this workspace, if it has some.

    Args:
        workspace: where the model goes.
        folder: the model's folder below ``models/`` of the other workspace, or a copy of it.
        config: its name here.
        progress: told at the start and the end.

    Raises:
        CheckpointRefused: no model, or a damaged one; the message says what does not hold.
        LabelSetMismatch: a detector of other classes.
        BadInput: the model is of this very workspace, or the name belongs to another one.
    """
    folder = folder.resolve()
    if folder.parent == workspace.models.resolve():
        raise BadInput(
            f"{folder.name} is a model of this workspace", expected="one of another workspace", remedy="It needs no import: tilehawk models"
        )
    progress(0, 1, folder.name)
    model, stored, beside = load_foreign(folder, beside=BESIDE)
    name = folder.name if config.name is None else config.name
    directory = model_directory(workspace, name)
    digest = hashlib.sha256(json.dumps(stored.manifest["sha256"], sort_keys=True).encode()).hexdigest()
    origin = _origin(stored, digest)
    with workspace.session(write=False) as session:
        _require_same_classes(session, stored)
        there = _is_there(session, name, digest, directory)
    if not there:
        _take_over(workspace, name, directory, model, stored, beside, origin)
    progress(1, 1, name)
    return ImportedModel(
        model=name,
        stage=stored.stage,
        classes=list(stored.label_set.names),
        architecture=stored.config.architecture,
        backbone=stored.config.backbone,
        tokenizer=bool(beside),
        trained_in=origin["workspace"],
        sha256=digest,
        already_there=there,
        next=f"tilehawk {NEXT[stored.stage]} {name}",
    )


def _origin(stored: StoredModel, digest: str) -> dict[str, Any]:
    """Where the model comes from: of one that was brought in there already, the workspace where it was trained."""
    provenance = stored.manifest.get("provenance")
    said = provenance if isinstance(provenance, dict) else {}
    before = said.get("imported")
    trained_in = said.get("workspace") or (before.get("workspace") if isinstance(before, dict) else None)
    known = isinstance(trained_in, str) and IDENTITY.fullmatch(trained_in)
    return {"model": stored.directory.name, "workspace": trained_in if known else None, "sha256": digest}


def _require_same_classes(session: Session, stored: StoredModel) -> None:
    """What ``finetune --from`` asks of a fine-tuned model, as soon as the workspace has classes."""
    if stored.stage == "finetune" and session.get(LabelSetRow, 1) is not None:
        label_set(session).require_equal(stored.label_set, ours="this workspace", theirs=f"the model {stored.directory.name}")


def _is_there(session: Session, name: str, digest: str, directory: Path) -> bool:
    """Whether the very model is here already, and whole.

    Raises:
        BadInput: another one has its name.
    """
    rows = [row for row in models(session) if row.name == name]
    if not rows:
        return False
    if rows[0].metrics.get("imported", {}).get("sha256") != digest:
        raise BadInput(f"the name {name!r} belongs to another model", expected="a name of its own", remedy="Choose another: --name NAME")
    try:
        read_model(directory)
    except CheckpointRefused:
        return False
    return True


def _take_over(
    workspace: Workspace,
    name: str,
    directory: Path,
    model: Detector,
    stored: StoredModel,
    beside: dict[str, Path],
    origin: dict[str, Any],
) -> None:
    """Write the folder as a whole, then register it."""
    if model.config.backbone_weights != "packaged":
        model.config = model.config.model_copy(update={"backbone_weights": "none"})
    told = {key: stored.manifest.get(key) for key in ("provenance", "versions")}
    try:
        save_model(
            directory,
            model,
            stage=stored.stage,
            label_set=stored.label_set,
            metrics={},
            provenance={"imported": origin | told},
            beside=beside,
        )
    except RecursionError as deep:
        raise CheckpointRefused(f"{origin['model']}: its manifest is nested too deeply", expected="one that Tilehawk wrote") from deep
    with workspace.session() as session:
        add_model(
            session,
            name=name,
            stage=stored.stage,
            config={"detector": model.config.model_dump(mode="json")},
            data_hash=origin["sha256"],
            label_set_fingerprint=stored.label_set.fingerprint if stored.stage == "finetune" else None,
            metrics={"imported": origin},
        )
        ledger.record(session, "import_model", **origin | {"model": name, "from": origin["model"]})
