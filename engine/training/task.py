"""What the training loop asks of a task."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from engine.training.data import Sample

__all__ = ["Task"]


class Task(Protocol):
    """What is learned."""

    @property
    def model(self) -> nn.Module:
        """All that is trained and saved."""

    @property
    def classes(self) -> int | None:
        """How many classes labels may name; None where labels are not learned."""

    def loss(self, batch: list[Sample], generator: torch.Generator, done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its parts for the log.

        Args:
            batch: of one size, on the model's device.
            generator: on the CPU; decides every random choice.
            done: share of the run's steps that are done, in [0, 1).
        """
