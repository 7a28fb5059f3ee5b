"""One step: forward and backward by micro-batches, smaller ones where memory runs out, and never on numbers that are none."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from engine.errors import TilehawkError
from engine.training.batches import Batch
from engine.training.data import Sample
from engine.training.faults import NotFinite, is_out_of_memory
from engine.training.optimization import TrainingState
from engine.training.schedule import ScheduleConfig, uses_bf16
from engine.training.task import Task

__all__ = ["StepResult", "Stepper", "micro_batches"]


class StepResult(NamedTuple):
    """What a step computed."""

    loss: float
    parts: dict[str, float]
    gradient_norm: float
    """before clipping"""


def micro_batches(samples: list[Sample], size: int) -> list[tuple[list[Sample], float]]:
    """The samples in runs of ``size``, each with its weight in the step's loss.

    The losses are means over objects, so a run weighs by its objects, and where there are none at all by its images: the sum is then
    the loss of the whole batch, up to parts that are normalised by something else.
    """
    runs = [samples[first : first + size] for first in range(0, len(samples), size)]
    objects = sum(len(sample.labels) for sample in samples)
    if not objects:
        return [(run, len(run) / len(samples)) for run in runs]
    return [(run, max(sum(len(sample.labels) for sample in run), 1) / objects) for run in runs]


class Stepper:
    """Takes the steps of a run.

    Args:
        task: what is learned.
        state: what is changed.
        config: precision, clipping, micro-batch.
        accelerator: device and backward.
        micro_batch: images that go through the model at once, to begin with.
    """

    def __init__(self, task: Task, state: TrainingState, config: ScheduleConfig, accelerator: Any, micro_batch: int) -> None:
        self._task, self._state, self._config, self._accelerator = task, state, config, accelerator
        self.micro_batch = micro_batch
        self.shrunk: list[tuple[int, int]] = []
        """(step, micro-batch from there on) each time that memory ran out"""
        self.bf16 = uses_bf16(config.precision, accelerator.device)

    def take(self, batch: Batch) -> StepResult:
        """Compute the gradients of the batch, clip them, and change weights and average.

        Raises:
            NotFinite: the loss or the gradient is none; no weight was changed.
            TilehawkError: memory does not hold one image.
        """
        loss, parts = self._gradients_within_memory(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(list(self._state.trained.values()), self._config.clip_norm))
        if not math.isfinite(norm):
            raise NotFinite("gradient", norm, {})
        self._state.optimizer.step()
        self._state.update_average(batch.step)
        return StepResult(loss, parts, norm)

    def _gradients_within_memory(self, batch: Batch) -> tuple[float, dict[str, float]]:
        while True:
            try:
                return self._gradients(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(batch, error)
            self._state.optimizer.zero_grad(set_to_none=True)
            if self._accelerator.device.type == "cuda":
                torch.cuda.empty_cache()

    def _halve(self, batch: Batch, error: RuntimeError) -> None:
        present = min(self.micro_batch, len(batch.samples))
        if present == 1:
            raise TilehawkError(
                f"memory does not hold the training of one image of {batch.samples[0].image.shape[-1]} px: {str(error)[:200]}",
                remedy="Take smaller tiles or a smaller detector, or free memory; training goes on from its last checkpoint",
            ) from error
        self.micro_batch = -(-present // 2)
        self.shrunk.append((batch.step, self.micro_batch))

    def _gradients(self, batch: Batch) -> tuple[float, dict[str, float]]:
        device = self._accelerator.device
        generator = torch.Generator()
        generator.set_state(batch.random_state)
        self._state.optimizer.zero_grad(set_to_none=True)
        total, logged = 0.0, dict[str, float]()
        for samples, weight in micro_batches(batch.samples, self.micro_batch):
            moved = [sample.to(device, non_blocking=True) for sample in samples]
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                loss, parts = self._task.loss(moved, generator, batch.done)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise NotFinite("loss", value, parts)
            self._accelerator.backward(loss * weight)
            total += value * weight
            logged = {name: logged.get(name, 0.0) + part * weight for name, part in parts.items()}
        return total, logged
