"""Several tasks learned side by side, each with a weight that may fall in the course of the run (multi-task learning)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from engine.config import StageConfig
from engine.training.data import Sample
from engine.training.task import Task

__all__ = ["Curve", "JointTask", "WeightConfig", "Weighted", "falling", "weight_at"]

Curve = Literal["constant", "linear", "cosine"]


class WeightConfig(StageConfig):
    """How much a task counts, and how that changes."""

    start: float = Field(default=1.0, ge=0)
    """At the beginning of the run."""
    end: float = Field(default=0.0, ge=0)
    """At its end, where the curve is not constant."""
    curve: Curve = "constant"
    """How it goes from the one to the other."""

    @model_validator(mode="after")
    def _counts_at_all(self) -> Self:
        if not self.start and (self.curve == "constant" or not self.end):
            raise ValueError("a weight of 0 from start to end: leave the task out")
        return self


def falling(start: float, end: float, curve: Curve, done: float) -> float:
    """What stands at ``start``, and goes to ``end`` unless it is constant, when the share ``done`` of the run is done, in [0, 1]."""
    if curve == "constant":
        return start
    left = 1 - done if curve == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return end + (start - end) * left


def weight_at(config: WeightConfig, done: float) -> float:
    """The weight when the share ``done`` of the run is done, in [0, 1]."""
    return falling(config.start, config.end, config.curve, done)


class Weighted(NamedTuple):
    """A task and how much it counts."""

    task: Task
    weight: WeightConfig


class JointTask:
    """The weighted sum of tasks that share parts of their models.

    Args:
        tasks: by name, which stands before the names of their losses in the log. The first names the classes.
    """

    def __init__(self, tasks: Mapping[str, Weighted]) -> None:
        self._tasks = dict(tasks)
        self.model: nn.Module = nn.ModuleDict({name: each.task.model for name, each in tasks.items()})

    @property
    def classes(self) -> int | None:
        """Of the first task."""
        return next(iter(self._tasks.values())).task.classes

    def loss(self, batch: list[Sample], generator: torch.Generator, done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """The sum; a task that counts nothing by now is not computed, unless none counts anything yet."""
        total: Tensor | None = None
        log: dict[str, float] = {}
        weights = {name: weight_at(each.weight, done) for name, each in self._tasks.items()}
        for name, (task, _) in self._tasks.items():
            weight = weights[name]
            if not weight and any(weights.values()):
                continue
            value, parts = task.loss(batch, generator, done)
            total = weight * value if total is None else total + weight * value
            log |= {f"{name}.{part}": number for part, number in parts.items()} | {f"{name}.weight": weight}
        assert total is not None
        return total, log
