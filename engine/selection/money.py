"""What an annotator's hour costs."""

from __future__ import annotations

from pydantic import Field

from engine.config import StageConfig

__all__ = ["HOUR", "MoneyConfig"]

HOUR = 3600.0
"""Seconds."""


class MoneyConfig(StageConfig):
    """What an annotator's hour costs, and in what."""

    hourly_rate: float = Field(default=30.0, gt=0)
    """What an annotator's hour costs."""
    currency: str = "€"
    """What money is counted in."""
