"""How a batch of tiles is chosen under a budget."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config import StageConfig
from engine.selection.cost import CostConfig, Prices
from engine.selection.detections import ObjectConfig
from engine.selection.difficulty import DifficultyConfig
from engine.selection.uncertainty import UncertaintyConfig

__all__ = ["SelectionConfig", "Strategy", "uncertainty_weight"]

Strategy = Literal["tilehawk", "random", "k-center", "typiclust", "prob-cover", "entropy-mean", "ppal"]


class SelectionConfig(StageConfig):
    """How a batch of tiles is chosen under a budget."""

    budget_seconds: float = 1800.0
    """Seconds of annotation that the batch may be expected to cost; above 0."""
    strategy: Strategy = "tilehawk"
    """tilehawk: balance of the classes, coverage, later doubt, per second; random: the control; k-center, typiclust, prob-cover:
    coverage by embeddings alone; entropy-mean: the mean entropy of all queries, the naive baseline; ppal: doubt by the difficulty of the
    classes, then diversity of the objects."""
    seed: int = Field(default=0, ge=0)
    """Decides what is drawn: the random strategy, the audit slice, reference tiles and the first centres of clusters."""
    prices: Prices = Prices()
    """Seconds for each act of an annotator."""
    cost: CostConfig = CostConfig()
    """How predictions turn into expected work."""
    objects: ObjectConfig = ObjectConfig()
    """Which queries count as objects."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    """How the doubts in objects add up."""
    difficulty: DifficultyConfig = DifficultyConfig()
    """How much more a doubt counts in a hard class."""
    uncertainty_share: float = Field(default=0.3, ge=0, le=1)
    """λ_u once the detector has enough labels; balance and coverage weigh the rest."""
    balance_share: float = Field(default=0.8, ge=0, le=1)
    """Share of what uncertainty leaves that goes to the balance of the classes; coverage weighs the rest."""
    coverage_boxes_per_class: float = Field(default=20.0, ge=0)
    """Up to this many labelled boxes a class the detector's doubts mean little and have no say."""
    full_boxes_per_class: float = Field(default=100.0, gt=0)
    """From this many labelled boxes a class uncertainty has its whole share; in between the share grows in proportion."""
    doubted_classes: float = Field(default=1.0, ge=0)
    """How much more a class counts in the balance that the detector is not sure of: (1 − its mean score) to this power; 0 for all alike."""
    wanted_classes: tuple[str, ...] = ()
    """Classes that are worth more than the others in the balance, by name."""
    wanted_weight: float = Field(default=3.0, ge=1)
    """How much more they are worth."""
    empty_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the budget for tiles on which no object is expected; more of them only when nothing else fits."""
    scene_share: float = Field(default=0.25, gt=0, le=1)
    """Share of the budget for one scene; more of it only when nothing else fits."""
    overlap_share: float = Field(default=0.5, ge=0, le=1)
    """A tile of which more than this lies in a chosen or labelled one is left for last: its objects would be paid for twice."""
    duplicate_similarity: float = Field(default=0.98, gt=0, le=1)
    """A tile whose embedding has this cosine with one that is chosen or labelled, or waits in an open round, is left for last."""
    audit_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the budget, on average, for tiles drawn at random whatever they cost: what the strategy is held against, and an unbiased
    picture of the ground that is not labelled. At least one tile where the budget pays for two."""
    reference_tiles: int = Field(default=2000, ge=1)
    """Coverage is measured over at most this many tiles, drawn at random."""
    shortlist_tiles: int = Field(default=20_000, ge=1)
    """At most so many tiles are compared with one another. For tilehawk a third by their doubt a second, a third by what they add a second
    to one class or another, a third drawn at random; for strategies that go by embeddings alone all at random, every scene its share."""
    tail_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the tiles farthest from the mean embedding that k-center leaves for last."""
    candidate_factor: float = Field(default=4.0, ge=1)
    """κ: ppal chooses among so many times the tiles that the budget pays for."""


def uncertainty_weight(labelled_boxes: int, classes: int, config: SelectionConfig) -> float:
    """λ_u in [0, uncertainty_share]: none until there are labels to trust, then in proportion to the labels a class."""
    start, full = config.coverage_boxes_per_class, config.full_boxes_per_class
    per_class = labelled_boxes / max(classes, 1)
    if per_class >= full:
        return config.uncertainty_share
    return config.uncertainty_share * max(per_class - start, 0.0) / max(full - start, 1e-9)
