"""Commands about models: models, models import, models import-detector."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import JsonOption, WorkspaceOption
from app.cli.output import emit
from app.cli.stage import run_stage
from app.settings import find_workspace
from engine.errors import BadInput, UsageError

__all__ = ["add_to"]


def add_to(models: typer.Typer) -> None:
    """Register the commands of this group."""
    models.callback(invoke_without_command=True)(list_models)
    models.command("import")(import_model_or_weights)
    models.command("import-detector")(import_detector)


def list_models(context: typer.Context, *, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List the trained models with their metrics."""
    from engine.catalog.summary import summarize
    from engine.catalog.workspace import Workspace

    if context.invoked_subcommand is None:
        with Workspace.open(find_workspace(workspace)) as opened:
            emit({"models": summarize(opened).models}, as_json=as_json)


PickleOption = Annotated[
    bool, typer.Option("--allow-pickle", help="Read a .pt or .pth file that you trust; only tensors are taken from it.")
]


def import_model_or_weights(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER_OR_WEIGHTS",
            help="A model's folder of another workspace; or a file of weights, or the name of some of timm's hub, as resnet50.a1_in1k.",
        ),
    ],
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model here; else that of its folder.", show_default=False)
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Timm's name of the model that a file was made with, as resnet50.", show_default=False),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What stands before the names of the tensors, where a file holds several sets.", show_default=False
        ),
    ] = None,
    allow_pickle: PickleOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring in a model of another workspace, or weights for a backbone; the only command that asks timm's hub for anything."""
    is_model = Path(source).is_dir()
    stray = ["--backbone"] * (backbone is not None) + ["--prefix"] * (prefix is not None) + ["--allow-pickle"] * allow_pickle
    unfit = stray if is_model else ["--name"] * (name is not None)
    if unfit:
        raise UsageError(
            f"{unfit[0]} with {source}, which is {'a folder' if is_model else 'no folder'}",
            expected=f"{unfit[0]} with {'weights of a backbone' if is_model else 'a folder of a model'} alone",
            remedy="Leave it out, or check the path",
        )
    if is_model:
        _import_model(Path(source), name, workspace=workspace, as_json=as_json)
    else:
        _import_weights(source, backbone, prefix, allow_pickle=allow_pickle, workspace=workspace, as_json=as_json)


def _import_model(folder: Path, name: str | None, *, workspace: Path | None, as_json: bool) -> None:
    from engine.stages.import_model import ImportModelConfig
    from engine.stages.import_model import import_model as stage

    run_stage(stage, folder, ImportModelConfig.from_mapping({"name": name}), workspace=workspace, as_json=as_json)


def _import_weights(
    source: str, backbone: str | None, prefix: str | None, *, allow_pickle: bool, workspace: Path | None, as_json: bool
) -> None:
    from engine.models.weight_files import PICKLES
    from engine.stages.import_weights import ImportWeightsConfig
    from engine.stages.import_weights import import_weights as stage

    path, origin = Path(source), None
    if path.is_file() or path.suffix.lower() in {".safetensors", *PICKLES} or os.sep in source:
        if backbone is None and not path.exists():
            raise BadInput(
                f"no file or folder {source}",
                expected="a file of weights, a model's folder of another workspace, or a name of timm's hub",
                remedy="Check the path",
            )
        if backbone is None:
            raise UsageError(
                f"the file {source} without its backbone", expected="--backbone NAME", remedy="For example --backbone resnet50"
            )
    else:
        os.environ["HF_HUB_OFFLINE"] = "0"
        from app.wiring import hub_weights

        path, origin = hub_weights(source)
    config = ImportWeightsConfig.from_mapping({"backbone": backbone or source, "prefix": prefix})
    run_stage(partial(stage, source=origin, allow_pickle=allow_pickle), path, config, workspace=workspace, as_json=as_json)


def import_detector(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Weights of DETR, UP-DETR or Deformable DETR.")],
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model; else one is made up.", show_default=False)] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Timm's name of its backbone; a ResNet-18, -34, -50 or -101 is recognised.", show_default=False),
    ] = None,
    allow_pickle: PickleOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring in a published detector, from the original repositories or the transformers library, as a model to fine-tune from."""
    from engine.stages.import_detector import ImportDetectorConfig
    from engine.stages.import_detector import import_detector as stage

    config = ImportDetectorConfig.from_mapping({"name": name, "backbone": backbone})
    run_stage(partial(stage, allow_pickle=allow_pickle), file, config, workspace=workspace, as_json=as_json)
