"""Trained models as the catalog knows them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from engine.catalog.annotations import label_set
from engine.catalog.schema import ModelRow
from engine.catalog.workspace import Workspace
from engine.errors import BadInput
from engine.files import inside
from engine.label_set import LabelSet

__all__ = [
    "add_model",
    "asked_model",
    "current_detector",
    "exports",
    "exports_directory",
    "get_model",
    "is_asked",
    "model_directory",
    "models",
    "unseen_classes",
]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def model_directory(workspace: Workspace, name: str) -> Path:
    """Where the model ``name`` lives, below ``models/``; it need not exist yet.

    Raises:
        BadInput: a name with anything but letters, digits, dot, dash and underscore.
    """
    if not NAME.fullmatch(name):
        raise BadInput(
            f"the model name {name!r}", expected="letters, digits, dot, dash and underscore, at most 128", remedy="Choose another name"
        )
    return inside(workspace.models, name)


def exports(workspace: Workspace) -> list[str]:
    """The exported models whose folders are whole, the newest last."""
    known = [folder / "export.json" for folder in workspace.exports.iterdir() if (folder / "export.json").is_file()]
    return [file.parent.name for file in sorted(known, key=lambda file: (file.stat().st_mtime_ns, file.parent.name))]


def exports_directory(workspace: Workspace, name: str) -> Path:
    """Where the export ``name`` lives, below ``exports/``; it need not exist yet.

    Raises:
        BadInput: a name with anything but letters, digits, dot, dash and underscore.
    """
    if not NAME.fullmatch(name):
        raise BadInput(f"the name {name!r} of an export", expected="letters, digits, dot, dash and underscore, at most 128")
    return inside(workspace.exports, name)


def add_model(
    session: Session,
    *,
    name: str,
    stage: str,
    config: Mapping[str, Any],
    data_hash: str,
    parent_id: int | None = None,
    label_set_fingerprint: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> ModelRow:
    """Register a model whose folder is complete; registering the same name again updates its row.

    Args:
        session: an open transaction.
        name: folder name below ``models/``.
        stage: ``pretrain`` or ``finetune``.
        config: the stage's configuration, JSON-ready.
        data_hash: hash of what it was trained on.
        parent_id: the model it started from.
        label_set_fingerprint: of the classes it speaks; None for a model without classes.
        metrics: JSON-ready numbers.
    """
    row = session.scalar(select(ModelRow).where(ModelRow.name == name))
    if row is None:
        row = ModelRow(name=name, stage=stage)
        session.add(row)
    row.stage, row.config, row.data_hash, row.parent_id = stage, dict(config), data_hash, parent_id
    row.label_set_fingerprint, row.metrics = label_set_fingerprint, dict(metrics or {})
    session.flush()
    return row


def models(session: Session, *, stage: str | None = None) -> list[ModelRow]:
    """The models in the order of their making, of one ``stage`` or all."""
    query = select(ModelRow).order_by(ModelRow.id)
    return list(session.scalars(query if stage is None else query.where(ModelRow.stage == stage)))


def get_model(session: Session, name: str | None = None, *, stage: str | None = None) -> ModelRow:
    """The model ``name``, or the newest (of ``stage``) where no name is given; one-shot models, which know no class, are only named.

    Raises:
        BadInput: there is none; the message names the nearest, or the command that makes one.
    """
    known = models(session, stage=stage)
    detectors = [row for row in known if stage or row.stage != "one-shot"]
    if name is None and detectors:
        return detectors[-1]
    for row in known:
        if row.name == name:
            return row
    if name is None:
        raise BadInput(
            f"no {stage or 'trained'} model in this workspace", expected="one at least", remedy=f"Make one: tilehawk {stage or 'finetune'}"
        )
    nearest = difflib.get_close_matches(name, [row.name for row in known], n=1)
    raise BadInput(
        f"no {stage or 'trained'} model named {name!r}",
        expected=f"one of {[row.name for row in known]}",
        remedy=f"Did you mean {nearest[0]!r}?" if nearest else "See: tilehawk models",
    )


def is_asked(model: ModelRow) -> bool:
    """Whether the model was taught to be asked by a box."""
    return model.stage == "one-shot" or bool((model.config.get("detector") or {}).get("one_shot"))


def asked_model(session: Session, name: str | None = None) -> ModelRow:
    """The model ``name``, or the one that is asked for look-alikes where no name is given.

    That is the newest which was taught to be asked by a box; without one the newest pre-trained one; without that the newest of all.

    What such a model says of a box does not depend on the classes of today.

    Raises:
        BadInput: there is none; the message names the nearest, or the command that makes one.
    """
    taught = [row for row in models(session) if is_asked(row)]
    classless = taught or models(session, stage="pretrain")
    return classless[-1] if name is None and classless else get_model(session, name)


def current_detector(session: Session) -> ModelRow | None:
    """The newest detector that speaks of the workspace's classes; None where there is none.

    Raises:
        BadInput: the workspace has no classes.
    """
    fingerprint = label_set(session).fingerprint
    fitting = [row for row in models(session, stage="finetune") if row.label_set_fingerprint == fingerprint]
    return fitting[-1] if fitting else None


def unseen_classes(session: Session, model: ModelRow | None, classes: LabelSet) -> tuple[str, ...]:
    """Those of ``classes`` of which neither the model nor one that it came from has learned a label; all of them for None."""
    left = set(classes.names)
    while model is not None:
        if model.stage in ("finetune", "one-shot"):
            left &= set(model.config.get("leave_out", ()))
        model = session.get(ModelRow, model.parent_id) if model.parent_id else None
    return tuple(name for name in classes.names if name in left)
