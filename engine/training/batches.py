"""The batches of a run: which tiles, read and augmented, one step ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import torch

from engine.errors import BadInput, UnreadableImage
from engine.training.augment import augment, mosaic
from engine.training.data import Sample, TileSource, step_generator, stream_indices
from engine.training.schedule import PlannedStep, ScheduleConfig

__all__ = ["Batch", "BatchLoader", "prefetched"]


class Batch(NamedTuple):
    """The images of a step."""

    step: int
    samples: list[Sample]
    tiles: list[int]
    """indices of the source tiles, in order"""
    random_state: torch.Tensor
    """state of the step's generator after augmentation; the task draws from there"""


class BatchLoader:
    """Makes the batch of any step, whatever was made before.

    Args:
        source: the tiles.
        config: seed, augmentation, and how many tiles may turn out unreadable.
        plan: the run's steps.
        unreadable: tiles set aside already, with the reason; those found later join them.
    """

    def __init__(self, source: TileSource, config: ScheduleConfig, plan: Sequence[PlannedStep], unreadable: dict[int, str]) -> None:
        self._source, self._config, self._plan = source, config, plan
        self.unreadable = unreadable

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            BadInput: more tiles than allowed cannot be read, or one holds boxes or pixels that are no numbers.
        """
        planned, config = self._plan[step], self._config
        generator = step_generator(config.seed, step)
        stream = stream_indices(len(self._source), planned.first, planned.end, config.seed)
        read = [self._readable(index) for index in stream]
        samples: list[Sample] = []
        first = 0
        for count in planned.parts:
            parts = [sample for _, sample in read[first : first + count]]
            samples.append(augment(parts[0], config.augment, generator) if count == 1 else mosaic(parts, config.augment, generator))
            first += count
        return Batch(step, samples, [index for index, _ in read], generator.get_state())

    def _readable(self, index: int) -> tuple[int, Sample]:
        """The tile at ``index``, or the next one that can be read: which depends on the files alone, not on what was read before."""
        for candidate in (*range(index, len(self._source)), *range(index)):
            if candidate in self.unreadable:
                continue
            try:
                sample = self._source.sample(candidate)
            except UnreadableImage as error:
                self._set_aside(candidate, error)
                continue
            _require_numbers(sample, self._source.name(candidate))
            return candidate, sample
        raise AssertionError("the share of unreadable tiles ends the run before")

    def _set_aside(self, index: int, error: UnreadableImage) -> None:
        self.unreadable[index] = str(error)
        if len(self.unreadable) > self._config.max_unreadable * len(self._source) or len(self.unreadable) == len(self._source):
            names = [self._source.name(number) for number in sorted(self.unreadable)]
            raise BadInput(
                f"{len(names)} of {len(self._source)} tiles cannot be read: {', '.join(names[:5])}; the last: {error.found}",
                expected=f"at most the share max_unreadable = {self._config.max_unreadable}",
                remedy="Look at these files, or ingest them again",
            ) from error


def _require_numbers(sample: Sample, name: str) -> None:
    sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
    wrong = ~(torch.isfinite(sample.boxes).all(1) & (sides > 0).all(1))
    if wrong.any():
        box = sample.boxes[wrong][0].tolist()
        raise BadInput(f"tile {name} has the box {box}", expected="finite numbers, x1 < x2 and y1 < y2", remedy="Correct its labels")
    if sample.image.is_floating_point() and not torch.isfinite(sample.image).all():
        raise BadInput(f"the pixels of tile {name} hold NaN or infinities", expected="numbers", remedy="Leave the tile out")


@contextmanager
def prefetched(make: Callable[[int], Batch], steps: Iterable[int], threads: int) -> Iterator[Iterator[Batch]]:
    """The batches of ``steps`` in order; with a thread the next one is made while the caller works on the last.

    No thread is left when the context ends.
    """
    if not threads:
        yield map(make, steps)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        yield _one_ahead(pool, make, steps)


def _one_ahead(pool: ThreadPoolExecutor, make: Callable[[int], Batch], steps: Iterable[int]) -> Iterator[Batch]:
    pending: Future[Batch] | None = None
    for step in steps:
        following = pool.submit(make, step)
        if pending:
            yield pending.result()
        pending = following
    if pending:
        yield pending.result()
