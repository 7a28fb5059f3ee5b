"""How long, how fast and on what to train: the schedule's configuration, its rates, and the plan of its steps."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator

from engine.config import StageConfig
from engine.training.augment import MOSAIC_PARTS, AugmentConfig
from engine.training.data import step_generator

__all__ = ["PlannedStep", "PretrainScheduleConfig", "ScheduleConfig", "plan_steps", "rate", "uses_bf16"]

FEWEST_IMAGES, LOOKS = 2400, 4
"""What a run sees where nobody says how much: so many images, or so many looks at each tile."""


class ScheduleConfig(StageConfig):
    """How long and how fast to train."""

    images_seen: int | None = Field(default=None, ge=1)
    """Source images that enter a forward pass in all (a mosaic of four counts four); the schedule is stretched over them. None for
    2,400, or four looks at each tile where that is more: what is labelled late has to be looked at too."""
    passes: float = Field(default=0, ge=0)
    """Each tile is seen so often at least, beside an ``images_seen`` that is stated too; 0 leaves it at that."""
    batch_size: int = Field(default=4, ge=1)
    """Images a step."""
    micro_batch: int = Field(default=0, ge=0)
    """Images that go through the model at once, their gradients added up to the step's; 0 for all of them. It halves itself where memory
    runs out."""
    learning_rate: float = Field(default=6e-4, gt=0)
    """Peak rate of everything but the backbone."""
    backbone_learning_rate: float = Field(default=6e-4, ge=0)
    """Peak rate of the backbone's trainable stages."""
    offsets_rate: float = Field(default=1.0, gt=0)
    """Rate of the sampling offsets as a share of ``learning_rate``; Deformable DETR takes 0.1."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's decoupled decay."""
    decay_norms_and_biases: bool = True
    """Decay vectors (scales of normalisations, biases) like matrices."""
    warmup_steps: int = Field(default=30, ge=0)
    """Steps of linear warm-up."""
    curve: Literal["cosine", "step", "flat_cosine"] = "cosine"
    """How the rates fall: along a cosine, by ``step_factor`` at every share of ``step_at``, or not at all before ``flat_share``."""
    step_at: tuple[float, ...] = (0.8,)
    """Shares of the run at which the curve ``step`` drops."""
    step_factor: float = Field(default=0.1, gt=0, lt=1)
    """What is left of the rates after each drop."""
    flat_share: float = Field(default=0.5, ge=0, lt=1)
    """Share of the run for which the curve ``flat_cosine`` stays at its peak."""
    final_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of the peak at which a cosine ends."""
    clip_norm: float = Field(default=5.0, gt=0)
    """Largest gradient norm."""
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is saved; shorter while the run is young."""
    evaluate_every: int = Field(default=0, ge=0)
    """Images seen between two looks at the dev tiles; the averaged weights that did best there are the ones saved. 0: the last ones."""
    patience: int = Field(default=0, ge=0)
    """Looks at the dev tiles without a better AP after which training stops; 0 goes on to the end."""
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    """A checkpoint is due when this much time has passed since the last; 0 writes one after every step."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 runs forward passes under autocast; auto does so on GPUs and on CPUs that multiply bfloat16 (AMX, AVX512-BF16)."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves torch's own choice."""
    prefetch: int = Field(default=1, ge=0, le=1)
    """Threads that prepare the next batch while the model computes; the batches are the same with none."""
    max_unreadable: float = Field(default=0.1, ge=0, le=1)
    """Share of the tiles that may turn out unreadable; they are set aside by name, and above it training stops."""
    tensorboard: bool = False
    """Write the log for TensorBoard too, which has to be installed."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights, order and augmentation."""
    augment: AugmentConfig = AugmentConfig()
    """What may happen to a training image."""

    def over(self, tiles: int) -> Self:
        """The schedule of a run over so many tiles: ``images_seen`` is how many it sees."""
        stated = max(FEWEST_IMAGES, LOOKS * tiles) if self.images_seen is None else self.images_seen
        return self.model_copy(update={"images_seen": max(stated, round(self.passes * tiles))})

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if list(self.step_at) != sorted(self.step_at) or not all(0 < share < 1 for share in self.step_at):
            raise ValueError(f"step_at = {self.step_at} must be rising shares of the run between 0 and 1")
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts looks at the dev tiles: set evaluate_every too")
        return self


class PretrainScheduleConfig(ScheduleConfig):
    """How long and how fast to learn without labels: the backbone slower, for what it knows is what is taught."""

    images_seen: int | None = Field(default=FEWEST_IMAGES, ge=1)
    """Source images that enter a forward pass in all, whatever the number of tiles; the schedule is stretched over them."""
    backbone_learning_rate: float = Field(default=1.5e-4, ge=0)
    """Peak rate of the backbone's trainable stages, where it is not frozen."""

    @model_validator(mode="before")
    @classmethod
    def _any_schedule(cls, given: Any) -> Any:
        said = given.model_dump() if isinstance(given, ScheduleConfig) else given
        return {name: value for name, value in said.items() if (name, value) != ("images_seen", None)} if isinstance(said, dict) else said


def rate(step: int, steps: int, config: ScheduleConfig) -> float:
    """Share of the peak rate at a step: linear warm-up times the curve."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    done = step / steps
    if config.curve == "step":
        return float(warm * config.step_factor ** sum(done >= share for share in config.step_at))
    flat = config.flat_share if config.curve == "flat_cosine" else 0.0
    falling = max(done - flat, 0.0) / (1 - flat)
    return warm * (config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * falling)))


class PlannedStep(NamedTuple):
    """What a step trains on, counted along the stream of shuffled epochs."""

    first: int
    """source images seen before it"""
    parts: tuple[int, ...]
    """source images of each of its images: 1, or 4 for a mosaic"""

    @property
    def end(self) -> int:
        """Source images seen after it."""
        return self.first + sum(self.parts)


def plan_steps(config: ScheduleConfig) -> list[PlannedStep]:
    """Every step until ``images_seen`` source images are seen: a function of the configuration alone, after :meth:`ScheduleConfig.over`."""
    assert config.images_seen is not None
    steps: list[PlannedStep] = []
    seen = 0
    while seen < config.images_seen:
        parts = [1] * config.batch_size
        if config.augment.mosaic and seen < config.augment.mosaic_until * config.images_seen:
            drawn = torch.rand(config.batch_size, generator=step_generator(config.seed, len(steps), "plan"))
            parts = [MOSAIC_PARTS if share < config.augment.mosaic else 1 for share in drawn.tolist()]
        steps.append(PlannedStep(seen, tuple(parts)))
        seen = steps[-1].end
    return steps


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether forward passes run in bfloat16 on ``device``."""
    if precision == "auto" and device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if precision == "auto":
        able = torch.cpu.get_capabilities()
        return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return precision == "bf16"
