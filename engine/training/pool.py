"""Unlabelled tiles that join a task's batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.errors import UnreadableImage
from engine.training.augment import AugmentConfig, augment
from engine.training.data import Sample, TileSource
from engine.training.task import Task

__all__ = ["WithPool"]


class WithPool:
    """A task that also learns from tiles of a pool; for one that asks for no labels.

    Args:
        task: what is learned.
        pool: the tiles; one that cannot be read is passed over.
        augment: what may happen to them.
        share: tiles of the pool for each image of the batch, on average where that is no whole number.
        instead: of the batch, of which nothing is learned then; where no tile is drawn or can be read, nothing is learned in that step.
    """

    def __init__(self, task: Task, pool: TileSource, augment: AugmentConfig, *, share: float = 1.0, instead: bool = False) -> None:
        self._task, self._pool, self._augment, self._share, self._instead = task, pool, augment, share, instead

    @property
    def model(self) -> nn.Module:
        """The task's."""
        return self._task.model

    @property
    def classes(self) -> int | None:
        """The task's."""
        return self._task.classes

    def loss(self, batch: list[Sample], generator: torch.Generator, done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """The task's loss on the batch and tiles of the pool, which the generator draws and changes."""
        device = batch[0].image.device
        wanted = self._share * len(batch)
        count = int(wanted) + int(wanted % 1 > 0 and float(torch.rand(1, generator=generator)) < wanted % 1)
        drawn = [self._drawn(generator) for _ in range(count)] if len(self._pool) else []
        joined = [*([] if self._instead else batch), *(sample.to(device) for sample in drawn if sample)]
        return self._task.loss(joined, generator, done) if joined else (torch.zeros((), device=device, requires_grad=True), {})

    def _drawn(self, generator: torch.Generator) -> Sample | None:
        first = int(torch.randint(len(self._pool), (1,), generator=generator))
        try:
            return augment(self._pool.sample(first)._replace(tile=first), self._augment, generator)
        except UnreadableImage:
            return None
