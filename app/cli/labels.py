"""Labels in and out: labels import, labels export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.output import emit
from app.cli.progress import job
from app.cli.stage import run_stage
from app.settings import find_workspace

__all__ = ["add_to"]


def add_to(labels: typer.Typer) -> None:
    """Register the commands of this group."""
    labels.command("import")(import_labels)
    labels.command("export")(export_labels)


def import_labels(
    file: Annotated[
        Path,
        typer.Argument(
            help="COCO or iSAID json, VOC xml, a YOLO or DOTA folder, GeoPackage, GeoJSON, shapefile; a folder or archive of one."
        ),
    ],
    *,
    written_as: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="coco, voc, yolo, dota, isaid, gpkg, geojson or shapefile; else found by the content.",
            show_default=False,
        ),
    ] = None,
    withhold: Annotated[
        bool | None, typer.Option("--withhold", help="Keep the boxes on training ground for the oracle, to simulate annotators.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="The layer of a GeoPackage that has several.", show_default=False)
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of a GIS layer that names the class; else guessed.", show_default=False)
    ] = None,
    class_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one class of all features of a GIS layer.", show_default=False)
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(metavar="EPSG:CODE", help="The coordinate system of a GIS layer that states none.", show_default=False),
    ] = None,
    point_size: Annotated[
        float | None,
        typer.Option(metavar="METRES", help="Side of the boxes that the points of a GIS layer become; else refused.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take labels in for scenes that are there, all of a file or none; the first file decides the classes of the workspace."""
    from app.workflows.labels import LabelImportConfig

    chosen = configured(
        LabelImportConfig,
        config,
        settings,
        format=written_as,
        withhold=withhold,
        layer=layer,
        class_column=class_column,
        class_name=class_name,
        crs=crs,
        point_size=point_size,
    )
    run_stage("labels-import", chosen, paths={"file": file}, workspace=workspace, as_json=as_json, no_queue=no_queue)


def export_labels(
    written_as: Annotated[str, typer.Argument(metavar="FORMAT", help="coco, yolo, voc or gpkg.")],
    target: Annotated[Path, typer.Argument(help="A new file (coco, gpkg) or folder (yolo, voc; coco with pictures).")],
    *,
    per: Annotated[str | None, typer.Option(metavar="WHAT", help="scene or tile: what an image of it is.", show_default="scene")] = None,
    reviewed: Annotated[bool | None, typer.Option("--reviewed", help="Only what lies on tiles that somebody looked at.")] = None,
    images: Annotated[
        str | None, typer.Option(metavar="HOW", help="none, link or copy: pictures beside the labels.", show_default="none")
    ] = None,
    overwrite: Annotated[bool | None, typer.Option("--overwrite", help="Replace a file, or a folder that an earlier export wrote.")] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the accepted boxes for other tools, whole or not at all; withheld ones never."""
    from app.workflows.labels import export_labels as write
    from engine.catalog.workspace import Workspace
    from engine.stages.export_labels import LabelExportConfig

    chosen = configured(LabelExportConfig, config, settings, per=per, reviewed=reviewed, images=images, overwrite=overwrite)
    with Workspace.open(find_workspace(workspace)) as opened, job() as progress:
        report = write(opened, written_as, target, chosen, progress=progress)
    emit(report, as_json=as_json)
