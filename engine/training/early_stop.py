"""Looks at the dev tiles while training: which average was best, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import BadInput

__all__ = ["DevHistory", "EvaluateDev", "is_due"]

EvaluateDev = Callable[[], float]
"""The AP in [0, 1] on the dev tiles of what is trained, which has its averaged weights then; never on test tiles, and never the loss."""


def is_due(every: int, before: int, after: int, last: int) -> bool:
    """Whether a step that brought the images seen from ``before`` to ``after`` of ``last`` passed a multiple of ``every``, or was the last.

    Never where ``every`` is 0.
    """
    return bool(every) and (after // every > before // every or after >= last)


@dataclass
class DevHistory:
    """AP on the dev tiles along a run."""

    every: int
    """source images seen between two looks"""
    patience: int
    """looks without a better AP after which to stop; 0: never"""
    looks: list[tuple[int, float]] = field(default_factory=list)
    """(source images seen, AP)"""

    def due(self, before: int, after: int, last: int) -> bool:
        """Whether to look after a step that brought the images seen from ``before`` to ``after`` of ``last``."""
        return is_due(self.every, before, after, last)

    def add(self, seen: int, average_precision: float) -> bool:
        """Note a look; True where it is the best so far, the earliest of equals.

        Raises:
            BadInput: the AP is not finite, for no dev tile holds a box.
        """
        if not math.isfinite(average_precision):
            raise BadInput(f"the dev AP is {average_precision}", expected="dev tiles with boxes", remedy="Set evaluate_every to 0")
        best = self.best
        self.looks.append((seen, average_precision))
        return best is None or average_precision > best

    @property
    def best(self) -> float | None:
        """The best AP so far; None before the first look."""
        return max((value for _, value in self.looks), default=None)

    @property
    def exhausted(self) -> bool:
        """Whether as many looks as ``patience`` have passed since the best."""
        values = [value for _, value in self.looks]
        return bool(self.patience and values) and len(values) - 1 - values.index(max(values)) >= self.patience
