"""Pre-trained weights of backbones from timm's collection on the Hugging Face hub: one safetensors file, asked for by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

import httpx
import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from engine.errors import BadInput, TilehawkError

__all__ = ["HubFile", "download"]

FILE = "model.safetensors"


class HubFile(NamedTuple):
    """A file that was downloaded, or was there from an earlier time."""

    path: Path
    origin: str
    """repository and commit"""


def download(name: str, *, folder: Path | None = None, endpoint: str | None = None) -> HubFile:
    """The weights ``name`` of timm's collection; nothing is sent but the request, without a token.

    Args:
        name: of a model with the tag of its weights, as ``resnet50.a1_in1k``; without a tag timm's own choice.
        folder: where downloads are kept; None for the hub client's cache.
        endpoint: address of the hub; None for the public one, or what HF_ENDPOINT says.

    Raises:
        BadInput: timm knows no such weights, or they are not on the hub as safetensors.
        TilehawkError: the hub cannot be reached.
    """
    repository = _repository(name)
    if not repository:
        nearest = difflib.get_close_matches(name, timm.list_pretrained(), n=1)
        raise BadInput(
            f"timm has no weights {name!r} on the hub",
            expected="a name of timm.list_pretrained(), or a file of weights",
            remedy=f"Did you mean {nearest[0]!r}?" if nearest else "Bring a file: tilehawk models import FILE --backbone NAME",
        )
    try:
        path = Path(hf_hub_download(repository, FILE, cache_dir=folder, endpoint=endpoint, token=False, library_name="tilehawk"))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError) as unreachable:
        raise TilehawkError(
            f"the hub cannot be reached for {repository} ({_first_line(unreachable)})",
            expected="a connection to the hub, or the file in its cache",
            remedy=f"Fetch {FILE} of {repository} on a machine with a connection: tilehawk models import {FILE} --backbone {name}",
        ) from unreachable
    except (EntryNotFoundError, RepositoryNotFoundError) as absent:
        raise BadInput(
            f"{repository} has no {FILE} on the hub",
            expected="weights as safetensors; a pickle is never downloaded",
            remedy="Choose other weights, or bring a file: tilehawk models import FILE --backbone NAME",
        ) from absent
    except HfHubHTTPError as refused:
        raise TilehawkError(f"the hub refused {repository}: {_first_line(refused)}", remedy="Try again later") from refused
    return HubFile(path, f"{repository}@{path.parent.name}")


def _repository(name: str) -> str | None:
    try:
        known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:
        return None
    return known.hf_hub_id if known is not None else None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
