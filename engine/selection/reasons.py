"""Why a tile was chosen, in one sentence for the person who will annotate it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["explain"]


def explain(reasons: Mapping[str, Any], estimated_seconds: float) -> str:
    """One sentence from the numbers that :func:`engine.selection.rank.rank` gives with a tile.

    Args:
        reasons: weights, audit, uncertainty, objects_seen, novelty, nearest_labelled_tile, saturated, expected_boxes.
        estimated_seconds: what the tile is expected to cost.
    """
    boxes = reasons["expected_boxes"]
    shown, missed = boxes["sure"] + boxes["medium"], boxes["missed"]
    work = f"about {estimated_seconds:.0f} s for {shown:.0f} shown and {missed:.1f} missing boxes"
    crowd = ", perhaps more: every query of the detector answered" if reasons["saturated"] else ""
    return f"{_cause(reasons)}; {work}{crowd}."


def _cause(reasons: Mapping[str, Any]) -> str:
    if reasons["audit"]:
        return f"Drawn at random from scene {reasons['scene']}, to hold the choice against"
    weights, causes = reasons["weights"], []
    if weights.get("uncertainty") and reasons["uncertainty"] is not None:
        causes.append(f"the detector's doubt is {reasons['uncertainty']:.2f} over {reasons['objects_seen']} objects seen")
    if weights.get("balance") and reasons["classes"]:
        shown = ", ".join(f"{count:.0f} × {name}" for name, count in reasons["classes"].items())
        causes.append(f"it should show {shown}")
    if weights.get("coverage") and reasons["nearest_labelled_tile"] is None:
        causes.append("nothing is labelled yet that is like it")
    elif weights.get("coverage"):
        causes.append(f"novelty {reasons['novelty']:.2f} against tile {reasons['nearest_labelled_tile']}, the most similar labelled one")
    cause = " and ".join(causes) or f"drawn at random from scene {reasons['scene']}"
    return cause[0].upper() + cause[1:]
