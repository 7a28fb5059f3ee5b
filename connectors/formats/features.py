"""What every GIS layer is read as: features with a geometry, a class and perhaps the scene that they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from connectors.formats.contract import ReadOptions
from engine.errors import BadInput, UsageError

if TYPE_CHECKING:
    from pyproj import CRS

__all__ = ["CLASS_COLUMNS", "PIXEL_COLUMNS", "Columns", "FeatureLayer", "class_name_of", "crs_of", "pick_columns", "require_classes"]

CLASS_COLUMNS = ("class", "class_name", "classname", "label", "category", "category_name", "type")
"""Names that a column of classes is guessed by, in this order, in any case."""
PIXEL_COLUMNS = ("x1_px", "y1_px", "x2_px", "y2_px")
"""Columns that layers of ours have; with ``scene`` beside them, a feature belongs to the scene of that name."""


MOST_GUESSED = 1000
"""Classes beyond which a column that nobody named holds something else."""
MANY, MOSTLY = 20, 0.9
"""So many different values, nearly one for each feature, are no classes either."""


@dataclass(frozen=True)
class FeatureLayer:
    """A layer read whole.

    ``name`` is its file and layer, for messages; ``crs_wkt`` is None where it states none; ``geometries`` (N,) are shapely's, None where a
    feature has none or one that cannot be read; ``classes`` have a name or None for every feature; so have ``scenes``, or none at all.
    """

    name: str
    crs_wkt: str | None
    ids: Sequence[int | str]
    geometries: NDArray[Any]
    classes: Sequence[str | None]
    scenes: Sequence[str | None] = ()

    @property
    def in_pixels(self) -> bool:
        """Whether it is a layer of ours in pixels: every feature names its scene, and the coordinate system is tied to nothing."""
        crs = _parsed(self.crs_wkt, self.name)
        return crs is not None and bool(crs.is_engineering) and bool(self.scenes) and all(self.scenes)


@dataclass(frozen=True)
class Columns:
    """The columns of a layer that matter: of the class, None where ``class_name`` stands for all; of the scene, where the layer is ours."""

    of_class: str | None
    of_scene: str | None

    def needed(self) -> list[str]:
        """Both, those that there are."""
        return [column for column in (self.of_class, self.of_scene) if column is not None]


def pick_columns(layer: str, columns: Mapping[str, bool], options: ReadOptions) -> Columns:
    """The columns of class and scene.

    The class is in the column that is named, else in the first of :data:`CLASS_COLUMNS` that there is, else in the only column of text.

    Args:
        layer: its name, for messages.
        columns: each column, and whether it is text.
        options: ``class_column`` and ``class_name``.

    Raises:
        UsageError: both are given.
        BadInput: there is no such column, or none can be guessed; all columns are listed.
    """
    if options.class_name is not None and options.class_column is not None:
        raise UsageError("class_name and class_column", expected="one of them", remedy="Leave one of them out")
    ours = {"scene", "class", *PIXEL_COLUMNS} <= set(columns)
    of_scene = "scene" if ours else None
    if options.class_name is not None:
        return Columns(None, of_scene)
    listed = f"one of its columns: {', '.join(columns)}" if columns else "a column of classes, but it has no column"
    if options.class_column is not None:
        if options.class_column not in columns:
            raise BadInput(f"{layer} has no column {options.class_column!r}", expected=listed, remedy="Name one of them (--class-column)")
        return Columns(options.class_column, of_scene)
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    guessed = next((by_lower[name] for name in CLASS_COLUMNS if name in by_lower), None)
    texts = [column for column, is_text in columns.items() if is_text]
    if guessed is None and len(texts) != 1:
        raise BadInput(
            f"{layer}: which column names the class of a feature cannot be guessed",
            expected=listed,
            remedy="Name it (--class-column), or the one class of all features (--class-name)",
        )
    return Columns(guessed or texts[0], of_scene)


def require_classes(layer: str, columns: Columns, classes: Sequence[str | None], options: ReadOptions) -> None:
    """Refuse a column that was guessed where its values look like names of the features themselves; one of a layer of ours never does.

    Args:
        layer: its name, for messages.
        columns: as :func:`pick_columns` chose them.
        classes: of every feature.
        options: ``class_column`` says that nothing was guessed.

    Raises:
        BadInput: over a thousand different values; or over twenty, nearly one for each feature, where the column's name says nothing.
    """
    if columns.of_class is None or columns.of_scene is not None or options.class_column is not None:
        return
    given = [name for name in classes if name is not None]
    different = len(set(given))
    own = different > MANY and different > MOSTLY * len(given) and columns.of_class.lower() not in CLASS_COLUMNS
    if own or different > MOST_GUESSED:
        raise BadInput(
            f"{layer}: the column {columns.of_class!r} has {different} different values in {len(given)} features",
            expected="a column of classes",
            remedy="Name the column (--class-column), be it this one, or the one class of all features (--class-name)",
        )


def class_name_of(value: Any) -> str | None:
    """A value of a column as the name of a class: whole numbers without a point, None for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def crs_of(layer: FeatureLayer, options: ReadOptions) -> CRS:
    """The coordinate system of a layer: its own, or where it has none that is tied to the Earth, that of ``options``.

    Raises:
        BadInput: neither is there, both are and differ, or one is not understood.
    """
    own, given = _parsed(layer.crs_wkt, layer.name), _parsed(options.crs, "--crs")
    tied = own is not None and not own.is_engineering
    if own is not None and tied and given is not None and not own.equals(given, ignore_axis_order=True):
        raise BadInput(
            f"{layer.name} has the coordinate system {own.name}", expected=f"{given.name}, as --crs says", remedy="Leave --crs out"
        )
    found = own if tied else given
    if found is None:
        raise BadInput(
            f"{layer.name} states no coordinate system that is tied to the Earth",
            expected="one, so that its features can be laid over the scenes",
            remedy="State it (--crs EPSG:…)",
        )
    return found


def _parsed(text: str | None, where: str) -> CRS | None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if text is None:
        return None
    try:
        return CRS.from_user_input(text)
    except CRSError as unknown:
        raise BadInput(f"{where}: the coordinate system {text[:120]!r} is not understood", expected="for example EPSG:32617") from unknown
