"""What a run changes: weights, their average, the best average so far, and the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.errors import CheckpointRefused
from engine.training.schedule import ScheduleConfig

__all__ = ["TrainingState", "parameter_groups"]

OFFSETS = "sampling_offsets."


def parameter_groups(trained: dict[str, Tensor], config: ScheduleConfig) -> list[dict[str, object]]:
    """Parameters by rate and decay, as AdamW takes them: the backbone, the rest, and where they differ offsets and vectors.

    Args:
        trained: every trainable parameter by name.
        config: the rates; ``lr`` of a group is its peak.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in sorted(trained.items(), key=lambda item: "backbone." not in item[0]):
        peak = config.backbone_learning_rate if "backbone." in name else config.learning_rate
        peak *= config.offsets_rate if OFFSETS in name else 1.0
        decay = config.weight_decay if weight.ndim > 1 or config.decay_norms_and_biases else 0.0
        groups.setdefault((peak, decay), []).append(weight)
    return [{"params": weights, "lr": peak, "weight_decay": decay} for (peak, decay), weights in groups.items()]


class TrainingState:
    """Model, averages and optimizer: the tensors that a checkpoint holds."""

    def __init__(self, model: nn.Module, config: ScheduleConfig) -> None:
        self.model, self._decay = model, config.ema_decay
        self.trained: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.average = {name: weight.detach().clone() for name, weight in self.trained.items()}
        self.best: dict[str, Tensor] = {}
        """The average that did best on the dev tiles; empty before the first look."""
        self.optimizer = torch.optim.AdamW(parameter_groups(self.trained, config), fused=True)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def rates(self) -> list[float]:
        """The present rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def set_rates(self, share: float) -> None:
        """Rates at ``share`` of their peaks."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Move the average towards the weights; faster while the run is young."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, weight in self.trained.items():
            self.average[name].lerp_(weight.detach(), 1 - decay)

    def keep_best(self) -> None:
        """Remember the present average."""
        self.best = {name: weight.clone() for name, weight in self.average.items()}

    @torch.no_grad()
    def adopt(self) -> None:
        """Leave the model with the best average, or the last where nobody looked."""
        for name, weight in self.trained.items():
            weight.copy_((self.best or self.average)[name])

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its averaged weights, in evaluation mode; as before afterwards."""
        held = {name: weight.detach().clone() for name, weight in self.trained.items()}
        self._copy(self.average)
        self.model.eval()
        try:
            yield self.model
        finally:
            self._copy(held)
            self.model.train()

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, weight in self.trained.items():
            weight.copy_(values[name])

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint."""
        held = {f"model.{name}": weight for name, weight in self.trained.items()}
        held |= {f"average.{name}": weight for name, weight in self.average.items()}
        held |= {f"best.{name}": weight for name, weight in self.best.items()}
        for name, weight in self.trained.items():
            for key, value in self.optimizer.state.get(weight, {}).items():
                held[f"optimizer.{name}.{key}"] = value
        return held

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The state of :meth:`tensors`, laid out in memory as the weights are: a fused optimizer reads both in the order of memory.

        Raises:
            CheckpointRefused: the tensors are those of another model; nothing was changed.
        """
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
            if f"best.{name}" in tensors:
                self.best[name] = tensors[f"best.{name}"].to(weight.device)
            prefix = f"optimizer.{name}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            for key, value in state.items():
                laid_out = torch.empty_like(weight) if value.shape == weight.shape else torch.empty_like(value, device=weight.device)
                self.optimizer.state[weight][key] = laid_out.copy_(value)
