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
    done: float = 0.0
    """share of the run's steps before this one"""


class BatchLoader:
    """Makes the batch of any step, whatever was made before.

    Args:
        source: the tiles.
        config: seed, augmentation, and how many tiles may turn out unreadable.
        plan: the run's steps.
        unreadable: tiles set aside already, with the reason; those found later join them.
        classes: labels lie below it; None where they are not learned.
    """

    def __init__(
        self,
        source: TileSource,
        config: ScheduleConfig,
        plan: Sequence[PlannedStep],
        unreadable: dict[int, str],
        *,
        classes: int | None = None,
    ) -> None:
        self._source, self._config, self._plan, self._classes = source, config, plan, classes
        self.unreadable = unreadable

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            BadInput: more tiles than allowed cannot be read, or one holds what nothing can be learned from: a box that is none or lies
                outside, an unknown class, pixels that are no numbers.
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
        return Batch(step, samples, [index for index, _ in read], generator.get_state(), step / len(self._plan))

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
            _require_sound(sample, self._source.name(candidate), self._classes)
            return candidate, sample._replace(tile=candidate)
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


def _require_sound(sample: Sample, name: str, classes: int | None) -> None:
    boxes, labels, side = sample.boxes, sample.labels, sample.image.shape[-1]
    boxed = torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    inside = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < side).all(1)
    known = (labels >= 0) & (labels < classes) if classes is not None else torch.ones_like(inside)
    for sound, expected in (
        (boxed, "finite numbers, x1 < x2 and y1 < y2"),
        (inside, f"a box that reaches into the tile of {side} px"),
        (known, f"a class of 0 to {(classes or 0) - 1}"),
    ):
        if not sound.all():
            first = int((~sound).nonzero()[0, 0])
            found = f"tile {name} has the box {boxes[first].tolist()} of class {int(labels[first])}"
            raise BadInput(found, expected=expected, remedy="Correct its labels")
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
