"""The one training loop: what is learned is the task's business, how is this file's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn

from engine.config import StageConfig
from engine.errors import BadInput, Cancelled, CheckpointRefused, NothingToDo
from engine.progress import Progress
from engine.training.augment import AugmentConfig, augment
from engine.training.checkpoint import CheckpointStore
from engine.training.data import Sample, TileSource, batch_indices, step_generator

__all__ = ["ScheduleConfig", "Task", "TrainingRun", "seeded", "train"]


class ScheduleConfig(StageConfig):
    """How long and how fast to train."""

    images_seen: int = Field(default=2400, ge=1)
    """Training images that enter a forward pass in all; the schedule is stretched over them."""
    batch_size: int = Field(default=4, ge=1)
    """Images a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak rate of everything but the backbone."""
    backbone_learning_rate: float = Field(default=2e-4, ge=0)
    """Peak rate of the backbone's trainable stages."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's decoupled decay."""
    warmup_steps: int = Field(default=30, ge=0)
    """Steps of linear warm-up before the cosine."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is saved; shorter while the run is young."""
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    """A checkpoint is due when this much time has passed since the last; 0 writes one after every step."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs forward passes under autocast; it pays on GPUs."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's own choice."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights, order and augmentation."""
    augment: AugmentConfig = AugmentConfig()
    """What may happen to a training image."""


class Task(Protocol):
    """What is learned."""

    @property
    def model(self) -> nn.Module:
        """All that is trained and saved."""

    def loss(self, batch: list[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its parts for the log; ``generator`` (on the CPU) decides every random choice."""


@dataclass
class TrainingRun:
    """What a training run did; the model holds the averaged weights afterwards."""

    steps: int
    images_seen: int
    seconds: float
    losses: list[float] = field(default_factory=list)
    """One a step, from the run's first step on, across resumes."""
    parts: dict[str, float] = field(default_factory=dict)
    """The last step's parts."""
    resumed_at: int = 0
    """The step from which a checkpoint was resumed; 0 for a run in one go."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights drawn inside depend on ``seed`` alone; the global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate: linear warm-up, then a cosine down to one hundredth."""
    return min(1.0, (step + 1) / max(warmup, 1)) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


class _State:
    """Model, average and optimizer: what a checkpoint holds."""

    def __init__(self, model: nn.Module, config: ScheduleConfig) -> None:
        self.model, self.config = model, config
        self.trained: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.average = {name: weight.detach().clone() for name, weight in self.trained.items()}
        backbone = [weight for name, weight in self.trained.items() if "backbone." in name]
        rest = [weight for name, weight in self.trained.items() if "backbone." not in name]
        self.peaks = [config.backbone_learning_rate, config.learning_rate]
        groups = [{"params": weights, "lr": peak} for weights, peak in zip((backbone, rest), self.peaks, strict=True) if weights]
        self.peaks = [group["lr"] for group in groups]  # type: ignore[misc]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.order = [*backbone, *rest]

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        for name, weight in self.trained.items():
            self.average[name].lerp_(weight.detach(), 1 - decay)

    @torch.no_grad()
    def adopt_average(self) -> None:
        for name, weight in self.trained.items():
            weight.copy_(self.average[name])

    def tensors(self) -> dict[str, Tensor]:
        held = {f"model.{name}": weight for name, weight in self.trained.items()}
        held |= {f"average.{name}": weight for name, weight in self.average.items()}
        for index, weight in enumerate(self.order):
            for key, value in self.optimizer.state.get(weight, {}).items():
                held[f"optimizer.{index}.{key}"] = value
        return held

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        held = {name.removeprefix("model."): tensor.shape for name, tensor in tensors.items() if name.startswith("model.")}
        wanted = {name: weight.shape for name, weight in self.trained.items()}
        if held != wanted:
            differing = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
            raise CheckpointRefused(
                f"the checkpoint of this run holds another model: {differing[:3]} differ",
                expected="tensors of the same names and shapes",
                remedy="It comes from another version of Tilehawk; remove the run's folder below checkpoints/ to start it again",
            )
        for name, weight in self.trained.items():
            weight.copy_(tensors[f"model.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
        for index, weight in enumerate(self.order):
            prefix = f"optimizer.{index}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            for key, value in state.items():
                self.optimizer.state[weight][key] = value if key == "step" else value.to(weight.device)


def _require_finite(loss: Tensor, parts: dict[str, float], indices: list[int], step: int) -> None:
    if not math.isfinite(float(loss.detach())):
        broken = [name for name, value in parts.items() if not math.isfinite(value)]
        raise BadInput(
            f"the loss is {float(loss.detach())} at step {step} (parts {broken}, tiles number {indices} of the training set)",
            expected="a finite loss",
            remedy="Lower the learning rate, or look at these tiles; the last checkpoint is untouched",
        )


def train(
    task: Task, source: TileSource, config: ScheduleConfig, *, checkpoints: CheckpointStore | None, progress: Progress
) -> TrainingRun:
    """Train ``task.model`` on ``source`` and leave the averaged weights in it.

    Order, augmentation and every random choice are functions of (seed, step), so a run that goes on from a checkpoint computes
    what the uninterrupted run computes. On a cancel the state is saved first.

    Raises:
        NothingToDo: the source is empty.
        BadInput: the loss is not finite; no weight was changed by that step.
        Cancelled: progress said so.
    """
    if not len(source):
        raise NothingToDo("there is no tile to train on", remedy="Ingest imagery, or label some tiles")
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model = task.model.to(accelerator.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    state = _State(model, config)
    steps = math.ceil(config.images_seen / config.batch_size)
    run, first, spent = TrainingRun(0, 0, 0.0), 0, 0.0
    resumed = checkpoints.load_last() if checkpoints else None
    if resumed:
        state.restore(resumed.tensors)
        first, spent = resumed.step, float(resumed.facts["seconds"])
        run.losses, run.resumed_at = list(resumed.facts["losses"]), resumed.step
    began = saved_at = time.monotonic()

    def save(step: int) -> None:
        if checkpoints:
            checkpoints.save(step, state.tensors(), {"losses": run.losses, "seconds": spent + time.monotonic() - began})

    for step in range(first, steps):
        for group, peak in zip(state.optimizer.param_groups, state.peaks, strict=True):
            group["lr"] = peak * _rate(step, steps, config.warmup_steps)
        loss = _step(task, source, config, accelerator, state, step, run)
        run.losses.append(loss)
        try:
            progress((step + 1) * config.batch_size, steps * config.batch_size, f"loss {loss:.3f}")
        except Cancelled:
            save(step + 1)
            raise
        if step + 1 < steps and time.monotonic() - saved_at >= config.checkpoint_seconds:
            save(step + 1)
            saved_at = time.monotonic()
    state.adopt_average()
    model.eval()
    run.steps, run.images_seen, run.seconds = steps, steps * config.batch_size, spent + time.monotonic() - began
    return run


def _step(task: Task, source: TileSource, config: ScheduleConfig, accelerator: Any, state: _State, step: int, run: TrainingRun) -> float:
    generator = step_generator(config.seed, step)
    indices = batch_indices(len(source), config.batch_size, config.seed, step)
    batch = [augment(source.sample(index), config.augment, generator) for index in indices]
    device = accelerator.device
    batch = [Sample(*(part.to(device, non_blocking=True) for part in sample)) for sample in batch]
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        loss, run.parts = task.loss(batch, generator)
    _require_finite(loss, run.parts, indices, step)
    state.optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(list(state.trained.values()), config.clip_norm)
    _require_finite(norm, {"gradient": float(norm)}, indices, step)
    state.optimizer.step()
    state.update_average(step)
    return float(loss.detach())
