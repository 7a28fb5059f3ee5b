"""Layers of files that GDAL reads: a file is handed over under a plain name, with the files that belong to it and no others."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from connectors.formats.contract import ReadOptions
from connectors.formats.features import FeatureLayer, class_name_of, pick_columns, require_classes
from connectors.formats.sources import require_inside
from engine.errors import BadInput

__all__ = ["columns_of", "layer_names", "read_layer", "safely_named"]

TEXT = "OFTString"


@contextmanager
def safely_named(path: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """``path`` as a link of a plain name in a folder of its own, beside its siblings with ``suffixes``, in any case, as further links.

    GDAL gives meaning to some names (``!``, ``?``, ``.zip``) and looks at files beside the one that it opens.

    Raises:
        BadInput: a sibling is a link that leads out of its folder.
    """
    home = path.resolve().parent
    with tempfile.TemporaryDirectory(prefix="tilehawk-layer-") as folder:
        link = Path(folder) / f"layer{suffixes[0]}"
        link.symlink_to(path.resolve())
        for sibling in sorted(home.iterdir()):
            beside = Path(folder) / f"layer{sibling.suffix.lower()}"
            if sibling.stem == path.resolve().stem and beside.suffix in suffixes[1:] and not beside.is_symlink():
                require_inside(sibling, home)
                beside.symlink_to(sibling)
        yield link


def layer_names(file: Path, shown: str) -> list[str]:
    """The layers with geometries."""
    import pyogrio

    with _explained(shown):
        return [str(name) for name, kind in pyogrio.list_layers(file) if kind is not None]


def columns_of(file: Path, layer: str | None, shown: str) -> dict[str, bool]:
    """The columns of a layer, and whether each is text."""
    import pyogrio

    with _explained(shown):
        info = pyogrio.read_info(file, layer=layer)
        return {str(column): kind == TEXT for column, kind in zip(info["fields"], info["ogr_types"], strict=True)}


def read_layer(file: Path, layer: str | None, shown: str, options: ReadOptions) -> FeatureLayer:
    """A layer of ``file``; ``shown`` is what messages call it. Columns that do not matter are not read.

    Raises:
        BadInput: it is damaged, or has no column of classes.
    """
    import pyogrio.raw
    import shapely

    columns = pick_columns(shown, columns_of(file, layer, shown), options)
    with _explained(shown):
        meta, ids, geometry, values = pyogrio.raw.read(file, layer=layer, columns=columns.needed(), force_2d=True, return_fids=True)
        by_name = dict(zip(meta["fields"], (column.tolist() for column in values), strict=True))
        found = np.full(len(ids), None, dtype=object)
        found[:] = shapely.from_wkb(geometry, on_invalid="ignore")
    of_class = (
        [options.class_name] * len(ids) if columns.of_class is None else [class_name_of(value) for value in by_name[columns.of_class]]
    )
    require_classes(shown, columns, of_class, options)
    of_scene = [] if columns.of_scene is None else [class_name_of(value) for value in by_name[columns.of_scene]]
    return FeatureLayer(shown, meta["crs"], ids.tolist(), found, of_class, of_scene)


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """GDAL's complaints as ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    except (RuntimeError, ValueError, UnicodeError) as damaged:
        found = " ".join(str(damaged).split())[:200]
        raise BadInput(f"{shown} cannot be read: {found}", expected="a whole layer", remedy="Copy or export it again") from damaged
