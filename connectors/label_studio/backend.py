"""What Label Studio 1.23 asks of a machine learning backend, and what it wants to hear: documents in, documents out.

It asks ``GET health``, ``POST setup`` (with a token of its own, which we do not need), ``GET versions``, ``POST predict`` with tasks, and
``POST webhook`` when a training is to start. In the labelling page a box that is drawn with a smart tool comes as a ``predict`` for that
one task, with what was drawn in ``params.context.result``. The page takes such a box for a question: once the answer is accepted, it is
gone from the picture. So the answer repeats it, and what the annotator accepts is all there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectors.label_studio import tasks as forms
from engine.annotation_server import Suggestion
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.label_set import LabelSet

__all__ = [
    "Question",
    "answer",
    "look_alike_result",
    "read_question",
    "schema_of",
    "suggestion_result",
    "training_project",
    "wants_training",
]

START_TRAINING = "START_TRAINING"
MOST_DRAWN = 100
"""Regions of a question that are read; an annotator draws a few."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked.

    ``keys``: our own name of each task, empty where a task is not of ours; ``drawn``: None where suggestions are wanted, else regions, the
    newest last, and what looks like them is wanted.
    """

    keys: tuple[str, ...]
    drawn: tuple[Any, ...] | None = None


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInput("the body is no JSON object", expected="what Label Studio sends to a machine learning backend")
    return found


def read_question(body: bytes) -> Question:
    """The body of ``POST predict``.

    Raises:
        BadInput: not what Label Studio sends.
    """
    document = _document(body)
    asked = document.get("tasks")
    if not isinstance(asked, list):
        raise BadInput("the body has no list of tasks", expected="what Label Studio sends to a machine learning backend")
    params = document.get("params")
    context = params.get("context") if isinstance(params, dict) else None
    drawn = context.get("result") if isinstance(context, dict) else None
    return Question(tuple(map(_key, asked)), tuple(drawn[-MOST_DRAWN:]) if isinstance(drawn, list) else None)


def _key(task: Any) -> str:
    data = task.get("data") if isinstance(task, dict) else None
    key = data.get("tilehawk") if isinstance(data, dict) else None
    return key if isinstance(key, str) else ""


def answer(suggestions: Sequence[dict[str, Any] | None], model: str) -> dict[str, Any]:
    """The answer to a question: one result a task in their order, empty where there is nothing to say."""
    empty: dict[str, Any] = {"result": [], "model_version": model}
    return {"results": [dict(empty) if each is None else each for each in suggestions], "model_version": model}


def suggestion_result(shown: Suggestion, width: int, height: int, label_set: LabelSet, *, key: str) -> dict[str, Any]:
    """A suggestion as the result of a task.

    Its regions are marked as ours: a push that shows something else takes it away.
    """
    return _result(shown.boxes_tile, shown, width, height, label_set, seed=[key, shown.model])


def look_alike_result(drawn: Boxes, shown: Suggestion, width: int, height: int, label_set: LabelSet, *, key: str) -> dict[str, Any]:
    """The drawn boxes again, and what looks like them."""
    known = shown.boxes_tile
    assert known.scores is not None
    boxes = Boxes(
        np.concatenate([drawn.xyxy, known.xyxy]),
        np.concatenate([drawn.labels, known.labels]),
        np.concatenate([np.ones(len(drawn)), known.scores]),
    )
    return _result(boxes, shown, width, height, label_set, seed=[key, shown.model, drawn.xyxy.tolist()])


def _result(boxes: Boxes, shown: Suggestion, width: int, height: int, label_set: LabelSet, *, seed: object) -> dict[str, Any]:
    prefix = forms.region_prefix(hashlib.sha256(json.dumps([seed, boxes.xyxy.tolist()]).encode()).hexdigest())
    scores = [None] * len(boxes) if boxes.scores is None else boxes.scores.tolist()
    regions = []
    for index, (box, label, score) in enumerate(zip(boxes.xyxy.tolist(), boxes.labels.tolist(), scores, strict=True)):
        region = {**forms.rectangle(box, label_set.names[label], width, height), "id": f"{prefix}{index}"}
        regions.append(region if score is None else {**region, "score": round(score, 4)})
    result: dict[str, Any] = {"result": regions, "model_version": shown.model}
    if shown.score is not None:
        result["score"] = round(shown.score, 4)
    return result


def schema_of(body: bytes) -> str:
    """The label configuration of the project, from the body of ``POST setup``.

    Raises:
        BadInput: not what Label Studio sends.
    """
    schema = _document(body).get("schema")
    if not isinstance(schema, str):
        raise BadInput("the body has no label configuration", expected="what Label Studio sends to a machine learning backend")
    return schema


def wants_training(body: bytes) -> bool:
    """Whether the body of ``POST webhook`` asks for a training; whatever cannot be read does not."""
    return _action(body).get("action") == START_TRAINING


def training_project(body: bytes) -> int | None:
    """Label Studio's number of the project for which a training is asked; None where it is not said."""
    project = _action(body).get("project")
    number = project.get("id") if isinstance(project, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def _action(body: bytes) -> Mapping[str, Any]:
    try:
        return _document(body)
    except BadInput:
        return {}
