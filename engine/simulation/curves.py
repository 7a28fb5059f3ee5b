"""The learning curves of replays: AP50 over what an annotator spent, and the amount at which a curve gets somewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.selection.cost import Prices

__all__ = ["UNITS", "Curve", "Unit", "read_curves"]

Floats = NDArray[np.float64]
Unit = Literal["seconds", "boxes", "tiles"]
UNITS: tuple[Unit, ...] = get_args(Unit)
"""Ways to count what was spent: budgets in images flatter whoever picks crowded ones, so all three are told."""


@dataclass(frozen=True)
class Curve:
    """One strategy and seed: what was spent up to each round, in seconds, boxes and tiles, and the AP50 (in [0, 1]) that came of it."""

    strategy: str
    seed: int
    seconds: tuple[float, ...]
    boxes: tuple[float, ...]
    tiles: tuple[float, ...]
    ap50: tuple[float, ...]
    acts: tuple[dict[str, int], ...] = ()
    """verified, edited, drawn, deleted up to each round"""

    def repriced(self, prices: Prices) -> Curve:
        """The same visits at other prices, without noise: what it would have cost another annotator. Density is not counted."""
        priced = {"verified": prices.verify, "edited": prices.edit, "drawn": prices.draw, "deleted": prices.delete}
        seconds = tuple(
            prices.open * tiles + sum(price * acts[act] for act, price in priced.items())
            for tiles, acts in zip(self.tiles, self.acts, strict=True)
        )
        return Curve(self.strategy, self.seed, seconds, self.boxes, self.tiles, self.ap50, self.acts)

    def spent(self, unit: Unit) -> tuple[float, ...]:
        """Up to each round."""
        return {"seconds": self.seconds, "boxes": self.boxes, "tiles": self.tiles}[unit]

    def reaches(self, ap50: float, unit: Unit = "seconds") -> float | None:
        """What is spent when the AP50 is first at ``ap50``, in between rounds on a straight line; None where it never is."""
        spent = self.spent(unit)
        for place, value in enumerate(self.ap50):
            if value >= ap50:
                if not place:
                    return spent[0]
                before = self.ap50[place - 1]
                share = (ap50 - before) / (value - before)
                return spent[place - 1] + share * (spent[place] - spent[place - 1])
        return None

    def at(self, amounts: Floats, unit: Unit = "seconds") -> Floats:
        """AP50 (n,) where ``amounts`` (n,) are spent, on straight lines between rounds; NaN outside of them."""
        return np.interp(amounts, self.spent(unit), self.ap50, left=np.nan, right=np.nan)


def read_curves(folder: Path) -> list[Curve]:
    """The curves of every replay in ``folder`` that came to its end, by strategy and seed; files of other kinds are passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("rounds") and _finished(document):
            found.append(_curve(document))
    return sorted(found, key=lambda curve: (curve.strategy, curve.seed))


def _finished(document: Mapping[str, Any]) -> bool:
    """Whether all budgets were replayed, or nothing was left to visit."""
    return document.get("ended", False) or "config" not in document or len(document["rounds"]) > len(document["config"]["budgets"])


def _curve(document: Mapping[str, Any]) -> Curve:
    rounds = document["rounds"]
    return Curve(
        document["strategy"],
        document["seed"],
        tuple(each["seconds"] for each in rounds),
        tuple(each["boxes"] for each in rounds),
        tuple(each["tiles"] for each in rounds),
        tuple(each["measured"]["ap50"] for each in rounds),
        tuple({act: each[act] for act in ("verified", "edited", "drawn", "deleted")} for each in rounds),
    )
