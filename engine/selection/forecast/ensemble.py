"""A learning curve with its doubt: curves of all families, drawn in proportion to how well they explain what was measured.

Each family is fitted by robust least squares of its three bounded parameters, several starts, with the prior as further residuals.
Around every fit, curves are drawn and weighted by likelihood × prior over the density that they were drawn from, and the weighted curves
are resampled: a weighted bootstrap (Smith and Gelfand 1992). With three to five points a bootstrap of residuals has nothing to resample
and is far too sure; here the prior says what the points cannot.

The weights also settle how much each family counts. Summed over a family they are its marginal likelihood, which is the product of its
one-step-ahead predictions, p(y1)·p(y2 | y1)·p(y3 | y1, y2)…: a score out of sample. AICc is not defined for four parameters (three and
the noise) and five points or fewer, and leaving points out of three leaves too few to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import least_squares
from scipy.special import gammaln

from engine.config import StageConfig
from engine.errors import BadInput, NothingToDo
from engine.selection.forecast.families import FAMILIES, PARAMETERS, Family

__all__ = ["FEWEST_AMOUNTS", "CurveConfig", "CurveEnsemble", "LearningPoints", "fit_curves", "sampling_error"]

Floats = NDArray[np.float64]
FEWEST_AMOUNTS = 2
"""Of labels: one says nothing of a curve."""
NOISE_SCALES = ((0.4, 0.1), (0.7, 0.25), (1.0, 0.3), (1.6, 0.25), (2.6, 0.1))
"""How many times the expected noise there may be, and the prior probability of that."""
FREEDOM = 5.0
"""Degrees of freedom of the noise, Student's t: one training that went wrong does not bend the curve."""
PROPOSED, TAIL = 4000, 4.0
"""Curves drawn around each fit and as many from the prior, and the degrees of freedom of the former."""
STARTS = 2
STEP, TOLERANCE = 1e-5, 1e-6
"""Of the numerical derivatives, and of the fits."""


class CurveConfig(StageConfig):
    """How learning curves are fitted."""

    noise: float = Field(default=0.0125, gt=0, lt=1)
    """Standard deviation of AP50 from one training to the next on like labels, as it is expected; what is measured corrects it."""
    draws: int = Field(default=2000, ge=100, le=100_000)
    """Curves that stand for all that are possible."""
    seed: int = Field(default=0, ge=0)
    """Decides which curves are drawn."""


@dataclass(frozen=True, eq=False)
class LearningPoints:
    """N measurements in any order.

    ``amounts`` (N,) of labels: boxes, seconds or money, above 0; ``ap50`` (N,) in [0, 1]; ``errors`` (N,) standard errors of ``ap50``
    that come from the finite ground it was measured on, 0 where unknown.

    Raises:
        BadInput: lengths that differ, or a value that is not finite or out of its range.
    """

    amounts: Floats
    ap50: Floats
    errors: Floats

    def __post_init__(self) -> None:
        if not self.amounts.shape == self.ap50.shape == self.errors.shape == (len(self.amounts),):
            raise BadInput(f"learning points of shapes {self.amounts.shape}, {self.ap50.shape}, {self.errors.shape}", expected="(N,) each")
        for name, values, high in (("an amount", self.amounts, np.inf), ("an AP50", self.ap50, 1.0), ("an error", self.errors, 1.0)):
            wrong = ~(np.isfinite(values) & (values >= 0) & (values <= high)) | ((values == 0) & (name == "an amount"))
            if wrong.any():
                expected = "above 0" if name == "an amount" else "in [0, 1]"
                raise BadInput(f"{name} of {values[wrong][0]} among the learning points", expected=f"a number {expected}")


def sampling_error(ap50: Floats, boxes: Floats) -> Floats:
    """What the finite ground with ``boxes`` (N,) true boxes adds to the differences between measurements of ``ap50`` (N,).

    √(AP50·(1 − AP50) / 2·boxes): half of the binomial variance, for models of one run are measured on the same objects, and mostly find
    and miss the same.
    """
    error: Floats = np.sqrt(ap50 * (1 - ap50) / (2 * boxes))
    return error


@dataclass(frozen=True, eq=False)
class CurveEnsemble:
    """D equally likely learning curves.

    ``reference`` is the largest measured amount; ``members`` holds each family with the coordinates (d, 3) of its curves; ``noise`` (D,) is
    what a new measurement may add to each.
    """

    reference: float
    members: tuple[tuple[Family, Floats], ...]
    noise: Floats

    @property
    def weights(self) -> dict[str, float]:
        """By family, its share of the curves."""
        return {family.name: len(coordinates) / len(self.noise) for family, coordinates in self.members}

    def curves(self, amounts: Floats) -> Floats:
        """The AP50 (D, m) of every curve at ``amounts`` (m,), without noise."""
        relative = np.asarray(amounts, dtype=np.float64) / self.reference
        return np.concatenate([family.ap50(coordinates, relative) for family, coordinates in self.members])

    def measured(self, amounts: Floats) -> Floats:
        """The AP50 (D, m) in [0, 1] that would be measured at ``amounts`` (m,); no row falls along rising amounts."""
        return np.clip(self.curves(amounts) + self.noise[:, None], 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Weighted:
    """Curves of one family under one scale of the noise, with logarithms of their unnormalised weights (n,)."""

    family: Family
    scale: float
    coordinates: Floats
    log_weights: Floats


def fit_curves(points: LearningPoints, config: CurveConfig) -> CurveEnsemble:
    """The learning curves that ``points`` leave possible; their order does not matter, and the same points give the same curves bit by bit.

    With two different amounts the priors decide most of the answer, and the interval is as wide as they say.

    Raises:
        NothingToDo: fewer than two different amounts.
    """
    amounts = len(np.unique(points.amounts))
    if amounts < FEWEST_AMOUNTS:
        raise NothingToDo(
            f"{len(points.amounts)} measurements at {amounts} different amounts of labels",
            expected=f"{FEWEST_AMOUNTS} amounts at least; from 3 on the curve counts for more than its prior",
            remedy=f"Annotate and evaluate {FEWEST_AMOUNTS - amounts} more round(s)",
        )
    order = np.lexsort((points.errors, points.ap50, points.amounts))
    known = LearningPoints(points.amounts[order], points.ap50[order], points.errors[order])
    generator = np.random.default_rng(config.seed)
    prior = generator.standard_normal((PROPOSED, PARAMETERS))
    spread = generator.standard_normal((PROPOSED, PARAMETERS)) / np.sqrt(generator.chisquare(TAIL, PROPOSED) / TAIL)[:, None]
    deviation = np.hypot(config.noise, known.errors)
    drawn = [
        _draw(known, family, scale, np.log(probability), deviation, prior, spread)
        for family in FAMILIES
        for scale, probability in NOISE_SCALES
    ]
    return _resampled(known, drawn, config, generator)


def _draw(
    known: LearningPoints, family: Family, scale: float, log_probability: float, deviation: Floats, prior: Floats, spread: Floats
) -> _Weighted:
    """Curves from the neighbourhood of the best fit and as many from the prior, by their posterior over the density of both."""
    relative, sigma = known.amounts / known.amounts[-1], scale * deviation

    def residuals(coordinates: Floats) -> Floats:
        return (known.ap50 - family.ap50(coordinates, relative)) / sigma

    centre, factor = _best_fit(residuals, prior)
    coordinates = np.concatenate([centre + spread @ factor.T, prior])
    log_prior = -0.5 * (coordinates**2).sum(1) - 0.5 * PARAMETERS * np.log(2 * np.pi)
    log_likelihood = (_log_t(residuals(coordinates), FREEDOM) - np.log(sigma)).sum(1)
    log_proposal = np.logaddexp(_log_t_around(coordinates, centre, factor), log_prior) - np.log(2)
    return _Weighted(family, scale, coordinates, log_probability + log_prior + log_likelihood - log_proposal)


def _best_fit(residuals: Callable[[Floats], Floats], prior: Floats) -> tuple[Floats, Floats]:
    """The most probable coordinates (3,), and the Cholesky factor (3, 3) of their covariance by the Gauss–Newton matrix.

    Starts are the most probable ones among the ``prior`` draws (n, 3). The square of a robust residual is twice the negative logarithm of
    Student's density, so that least squares of these and of the coordinates themselves are the posterior's maximum.
    """

    def robust(coordinates: Floats) -> Floats:
        plain = residuals(coordinates)
        shrunk = np.sign(plain) * np.sqrt(-2 * _log_t(plain, FREEDOM))
        return np.concatenate([shrunk, coordinates], axis=-1)

    def slopes(coordinates: Floats) -> Floats:
        steps = STEP * np.eye(PARAMETERS)
        return ((robust(coordinates + steps) - robust(coordinates - steps)) / (2 * STEP)).T

    starts = prior[np.argsort((robust(prior) ** 2).sum(1), kind="stable")[:STARTS]]
    fits = [least_squares(robust, start, jac=slopes, method="lm", xtol=TOLERANCE, ftol=TOLERANCE, gtol=TOLERANCE) for start in starts]
    best = min(fits, key=lambda fit: float(fit.cost))
    return best.x, np.linalg.cholesky(np.linalg.inv(best.jac.T @ best.jac))


def _resampled(known: LearningPoints, drawn: Sequence[_Weighted], config: CurveConfig, generator: np.random.Generator) -> CurveEnsemble:
    """``config.draws`` of the curves, each as often as its weight says (systematic resampling), and a deviation for each."""
    log_weights = np.concatenate([each.log_weights for each in drawn])
    cumulative = np.cumsum(np.exp(log_weights - log_weights.max()))
    places = (np.arange(config.draws) + 0.5) / config.draws * cumulative[-1]
    chosen = np.searchsorted(cumulative, places)
    family_of = np.concatenate([np.full(len(each.log_weights), FAMILIES.index(each.family)) for each in drawn])[chosen]
    scale_of = np.concatenate([np.full(len(each.log_weights), each.scale) for each in drawn])[chosen]
    coordinates = np.concatenate([each.coordinates for each in drawn])[chosen]
    noise = np.hypot(config.noise, known.errors[-1]) * scale_of * generator.standard_t(FREEDOM, config.draws)
    members = tuple((family, coordinates[family_of == number]) for number, family in enumerate(FAMILIES))
    return CurveEnsemble(float(known.amounts[-1]), members, noise)


def _log_t(values: Floats, freedom: float) -> Floats:
    """Logarithm of Student's density, 0 at its peak."""
    scaled: Floats = np.log1p(values**2 / freedom)
    return -(freedom + 1) / 2 * scaled


def _log_t_around(coordinates: Floats, centre: Floats, factor: Floats) -> Floats:
    """Logarithm of the density (n,) of Student's t in three dimensions, with its constants."""
    distance = np.linalg.solve(factor, (coordinates - centre).T)
    constant = gammaln((TAIL + PARAMETERS) / 2) - gammaln(TAIL / 2) - PARAMETERS / 2 * np.log(TAIL * np.pi)
    density: Floats = constant - np.log(np.diag(factor)).sum() - (TAIL + PARAMETERS) / 2 * np.log1p((distance**2).sum(0) / TAIL)
    return density
