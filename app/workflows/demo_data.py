"""The demo's imagery: NEON's airborne pictures of tree crowns, out of the installed package ``deepforest`` (MIT)."""

from __future__ import annotations

import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

from engine.errors import BadInput
from engine.files import atomic_directory

__all__ = ["GEOTIFF", "DemoInput", "demo_input"]

GEOTIFF = "OSBS_029.tif"
SCENES = ("2019_YELL_2_528000_4978000_image_crop2.png", "2019_YELL_2_541000_4977000_image_crop.png", "SOAP_061.png", GEOTIFF)


class DemoInput:
    """What a customer would bring: an archive of imagery, a folder of label files, a scene to search.

    Args:
        folder: holds ``imagery.zip``, ``labels/`` and the GeoTIFF.
    """

    def __init__(self, folder: Path) -> None:
        self.archive = folder / "imagery.zip"
        self.labels = folder / "labels"
        self.geotiff = folder / GEOTIFF


def _package_data() -> Path:
    """The folder of the installed package, which is not imported: it is a data package here."""
    spec = find_spec("deepforest")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise BadInput(
            "the demo's imagery is not installed",
            expected="the data package deepforest 2.1.0",
            remedy="Run `make install`, or install requirements-demo.lock without dependencies",
        )
    return Path(places[0]) / "data"


def demo_input(folder: Path) -> DemoInput:
    """Make the demo's input in ``folder``, as a whole; what is there already is taken as it is.

    Raises:
        BadInput: the data package is missing, or lacks a file.
    """
    if not folder.is_dir():
        data = _package_data()
        lacking = [name for name in SCENES if not ((data / name).is_file() and (data / name).with_suffix(".xml").is_file())]
        if lacking:
            raise BadInput(f"the data package lacks {lacking}", expected="deepforest 2.1.0", remedy="Install requirements-demo.lock again")
        with atomic_directory(folder) as temporary:
            with zipfile.ZipFile(temporary / "imagery.zip", "w", zipfile.ZIP_STORED) as archive:
                for name in SCENES:
                    archive.write(data / name, f"neon/{name}")
            (temporary / "labels").mkdir()
            for name in SCENES:
                xml = Path(name).with_suffix(".xml").name
                shutil.copyfile(data / xml, temporary / "labels" / xml)
            shutil.copyfile(data / GEOTIFF, temporary / GEOTIFF)
    return DemoInput(folder)
