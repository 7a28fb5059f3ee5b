"""The one training loop: what is learned is the task's business, how is this file's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from engine.errors import Cancelled, NothingToDo
from engine.progress import Progress
from engine.training.batches import Batch, BatchLoader, prefetched
from engine.training.checkpoint import Checkpoint, CheckpointStore
from engine.training.data import TileSource
from engine.training.early_stop import DevHistory, EvaluateDev, is_due
from engine.training.faults import NotFinite, refuse_not_finite, write_bundle
from engine.training.journal import Clock, Journal, tensorboard_writer
from engine.training.memory import kept_memory
from engine.training.optimization import TrainingState
from engine.training.schedule import ScheduleConfig, plan_steps, rate
from engine.training.step import Stepper, StepResult
from engine.training.task import Task

__all__ = ["ScheduleConfig", "Task", "TrainingRun", "Watch", "seeded", "train"]


class Watch(NamedTuple):
    """Somebody who looks at what is being learned."""

    every: int
    """images seen between two looks; the last step is looked at too"""
    look: Callable[[int], None]
    """called with the images seen so far, while the model has its averaged weights and is in evaluation mode"""


@dataclass
class TrainingRun:
    """What a training run did; the model holds the averaged weights afterwards."""

    steps: int
    images_seen: int
    """source images; a mosaic counts four"""
    seconds: float
    losses: list[float] = field(default_factory=list)
    """One a step, from the run's first step on, across resumes."""
    parts: dict[str, float] = field(default_factory=dict)
    """The last step's parts."""
    resumed_at: int = 0
    """The step from which a checkpoint was resumed; 0 for a run in one go."""
    passed_over: list[str] = field(default_factory=list)
    """Checkpoints that were damaged or lost when the run was taken up again, and why."""
    dev: list[tuple[int, float]] = field(default_factory=list)
    """(images seen, AP on the dev tiles) at every look."""
    stopped_early: bool = False
    """Whether the dev AP ended the run."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Tiles set aside, by name, and why."""
    micro_batches: list[tuple[int, int]] = field(default_factory=list)
    """(step, micro-batch from there on) each time that memory ran out."""
    precision: str = "fp32"
    """What forward passes ran in."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights drawn inside depend on ``seed`` alone; the global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def train(
    task: Task,
    source: TileSource,
    config: ScheduleConfig,
    *,
    checkpoints: CheckpointStore | None,
    progress: Progress,
    evaluate_dev: EvaluateDev | None = None,
    log: Path | None = None,
    watch: Watch | None = None,
) -> TrainingRun:
    """Train ``task.model`` on ``source`` and leave the averaged weights in it.

    Order, augmentation and every random choice are functions of (seed, step), so a run that goes on from a checkpoint computes
    what the uninterrupted run computes. On a cancel the state is saved first.

    Args:
        task: what is learned.
        source: the tiles.
        config: how long and how fast.
        checkpoints: where the state is kept; None for a run that cannot be resumed.
        progress: told after every step.
        evaluate_dev: the AP on dev tiles, asked every ``config.evaluate_every`` images; the best average is then kept.
        log: folder of ``log.csv``, and of the batch that led to a number that is none.
        watch: shown the model along the way; what it does changes nothing of the run.

    Raises:
        NothingToDo: the source is empty.
        BadInput: the loss or gradient is not finite, and no weight was changed by that step; or too many tiles are unreadable.
        Cancelled: progress said so.
        TilehawkError: memory does not hold one image.
        UsageError: TensorBoard is asked for and not installed.
    """
    if not len(source):
        raise NothingToDo("there is no tile to train on", remedy="Ingest imagery, or label some tiles")
    config = config.over(len(source))
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    model = task.model.to(accelerator.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    session = _Session(task, source, config, accelerator, checkpoints, evaluate_dev)
    session.watch = watch
    with kept_memory():
        session.run(progress, log)
    session.state.adopt()
    model.eval()
    return session.report()


class _Session:
    """A run from its last checkpoint to its end."""

    def __init__(
        self,
        task: Task,
        source: TileSource,
        config: ScheduleConfig,
        accelerator: Any,
        checkpoints: CheckpointStore | None,
        evaluate_dev: EvaluateDev | None,
    ) -> None:
        self.config, self.source, self.checkpoints, self.evaluate_dev = config, source, checkpoints, evaluate_dev
        self.watch: Watch | None = None
        self.plan = plan_steps(config)
        self.state = TrainingState(task.model, config)
        self.dev = DevHistory(config.evaluate_every if evaluate_dev else 0, config.patience)
        self.losses, self.parts, self.done, self.spent = list[float](), dict[str, float](), 0, 0.0
        self.loader = BatchLoader(source, config, self.plan, {}, classes=task.classes)
        self.stepper = Stepper(task, self.state, config, accelerator, config.micro_batch or config.batch_size)
        found = checkpoints.load_last() if checkpoints else None
        self.passed_over = list(checkpoints.passed_over) if checkpoints else []
        self.note = "; ".join(self.passed_over)
        if found:
            self._resume(found)
        self.resumed_at = self.done
        self.clock = Clock(self.seen, self.plan[-1].end)

    @property
    def seen(self) -> int:
        """Source images seen so far."""
        return self.plan[self.done - 1].end if self.done else 0

    def _resume(self, checkpoint: Checkpoint) -> None:
        self.state.restore(checkpoint.tensors)
        facts = checkpoint.facts
        self.done, self.losses, self.spent = checkpoint.step, list(facts["losses"]), float(facts["seconds"])
        self.dev.looks = [(seen, value) for seen, value in facts["dev"]]
        self.loader.unreadable.update({int(index): reason for index, reason in facts["unreadable"].items()})
        self.passed_over = [*facts["passed_over"], *self.passed_over]
        self.stepper.micro_batch = facts["micro_batch"]
        self.stepper.shrunk = [(step, size) for step, size in facts["micro_batches"]]

    def _save(self) -> None:
        if not self.checkpoints:
            return
        facts = {
            "losses": self.losses,
            "seconds": self.spent + self.clock.seconds,
            "dev": self.dev.looks,
            "unreadable": {str(index): reason for index, reason in dict(self.loader.unreadable).items()},
            "passed_over": self.passed_over,
            "micro_batch": self.stepper.micro_batch,
            "micro_batches": self.stepper.shrunk,
        }
        self.checkpoints.save(self.done, self.state.tensors(), facts)

    def run(self, progress: Progress, log: Path | None) -> None:
        """Take the steps that are left."""
        writer = tensorboard_writer(log / "tensorboard", self.done) if log and self.config.tensorboard else None
        steps = range(self.done, len(self.plan)) if not self.dev.exhausted else range(0)
        saved_at = time.monotonic()
        if self.note:
            progress(self.seen, self.plan[-1].end, f"a checkpoint was damaged ({self.note}); going on from step {self.done}")
        with (
            Journal(log, after=self.done, tensorboard=writer) as journal,
            prefetched(self.loader.batch, steps, self.config.prefetch) as batches,
        ):
            for batch in batches:
                result = self._step(batch, log)
                journal.write(self._row(batch, result, self._look()))
                self._show()
                try:
                    progress(self.seen, self.plan[-1].end, self.clock.line(self.seen, result.loss, self.dev.best))
                except Cancelled:
                    self._save()
                    raise
                if self.dev.exhausted:
                    break
                if self.done < len(self.plan) and time.monotonic() - saved_at >= self.config.checkpoint_seconds:
                    self._save()
                    saved_at = time.monotonic()

    def _step(self, batch: Batch, log: Path | None) -> StepResult:
        self.state.set_rates(rate(batch.step, len(self.plan), self.config))
        try:
            result = self.stepper.take(batch)
        except NotFinite as fault:
            names = [self.source.name(index) for index in batch.tiles]
            facts = {"names": names, "seed": self.config.seed, "rates": self.state.rates, "broken": [fault.what, *fault.broken]}
            bundle = write_bundle(log, batch, facts) if log else None
            raise refuse_not_finite(fault, batch, names, bundle) from fault
        self.losses.append(result.loss)
        self.parts, self.done = result.parts, batch.step + 1
        return result

    def _look(self) -> float | None:
        """The AP on the dev tiles where it is time for it."""
        if not self.evaluate_dev or not self.dev.due(self.plan[self.done - 1].first, self.seen, self.plan[-1].end):
            return None
        with self.state.averaged():
            found = self.evaluate_dev()
        if self.dev.add(self.seen, found):
            self.state.keep_best()
        return found

    def _show(self) -> None:
        if self.watch and is_due(self.watch.every, self.plan[self.done - 1].first, self.seen, self.plan[-1].end):
            with self.state.averaged():
                self.watch.look(self.seen)

    def _row(self, batch: Batch, result: StepResult, dev: float | None) -> dict[str, int | float | str]:
        rates = {f"rate{number}": value for number, value in enumerate(self.state.rates)}
        return {
            "step": self.done,
            "images_seen": self.seen,
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            **rates,
            "dev_ap": "" if dev is None else dev,
            "images_per_second": round(self.clock.speed(self.seen), 3),
            "micro_batch": self.stepper.micro_batch,
            "tiles": " ".join(str(index) for index in batch.tiles),
            **({"note": self.note} if self.note and self.done == self.resumed_at + 1 else {}),
            **{f"loss.{name}": value for name, value in result.parts.items()},
        }

    def report(self) -> TrainingRun:
        """What was done."""
        return TrainingRun(
            steps=self.done,
            images_seen=self.seen,
            seconds=self.spent + self.clock.seconds,
            losses=self.losses,
            parts=self.parts,
            resumed_at=self.resumed_at,
            passed_over=self.passed_over,
            dev=self.dev.looks,
            stopped_early=self.dev.exhausted and self.done < len(self.plan),
            unreadable={self.source.name(index): reason for index, reason in sorted(self.loader.unreadable.items())},
            micro_batches=self.stepper.shrunk,
            precision="bf16" if self.stepper.bf16 else "fp32",
        )
