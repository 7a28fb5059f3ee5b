"""Ingest: from an archive, a folder or a file to scenes and tiles in the catalog.

A source is looked through first: one that is cut off, over a cap or without any image is refused before anything is written. Then each
image is unpacked under an opaque name (files of a folder stay where they are), decoded whole, cut into windows, and enters the catalog
with its tiles in one transaction, in which others may be too. So after a crash at any point the same command goes on where it was, and ends
as one clean run ends.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from engine.catalog import sources
from engine.catalog.ledger import record
from engine.catalog.schema import Scene, Source
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import decide_splits
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import ArchiveRefused, BadInput, Cancelled, UnreadableImage
from engine.files import sha256_of
from engine.imagery.archive import ArchiveLimits, Member, MemberReader, SourceKind, read_members, source_kind
from engine.imagery.cutting import cut_scene
from engine.imagery.raster import MAGIC_BYTES, RasterInfo, RasterLimits, inspect_raster, needs_tiling, rewrite_tiled, sniff
from engine.progress import Progress, silent
from engine.stages.scene_batch import UNPACKED_NAME, SceneBatch

__all__ = ["IngestConfig", "IngestReport", "SetAsideEntry", "ingest"]

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".gtiff", ".bmp", ".gif", ".webp", ".jp2", ".heic", ".avif", ".ecw", ".vrt"]
)
ARCHIVE_SUFFIXES = frozenset([".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"])
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GTiff": "tif"}
NAME_WHILE_UNPACKED = re.compile(rf"^'{UNPACKED_NAME}\d+' ")
UNPACKED = re.compile(r"[0-9a-f]{64}\.(jpg|png|tif)")


class IngestConfig(StageConfig):
    """How imagery is taken in."""

    tile: int = Field(default=320, ge=32, le=4096)
    """side of a tile in pixels"""
    overlap: int = Field(default=64, ge=0)
    """pixels that neighbouring tiles share at least"""
    minimum_valid_share: float = Field(default=0.5, ge=0, le=1)
    """tiles with a smaller share of pixels that hold data are left out"""
    maximum_set_aside_share: float = Field(default=1.0, ge=0, le=1)
    """the source is refused when more than this share of its images cannot be read; at 1 only when none can"""
    split: SplitConfig | None = None
    """how ground is shared out over train, dev and test; fixed by the first ingest of a workspace"""
    ground: Literal["train", "dev", "test"] | None = None
    """the split of all scenes of this source, for data that come with a split of their own; none to share them out by ``split``"""
    max_members: int = Field(default=ArchiveLimits.max_members, ge=1)
    """entries of a source"""
    max_member_bytes: int = Field(default=ArchiveLimits.max_member_bytes, ge=1)
    """inflated bytes of one archive member"""
    max_total_bytes: int = Field(default=ArchiveLimits.max_total_bytes, ge=1)
    """inflated bytes of an archive"""
    max_ratio: float = Field(default=ArchiveLimits.max_ratio, ge=1)
    """inflated bytes by compressed bytes, judged from 64 MiB on"""
    max_pixels: int = Field(default=RasterLimits.max_pixels, ge=1)
    """width × height of an image"""
    max_bands: int = Field(default=RasterLimits.max_bands, ge=1)
    """bands of an image"""

    @model_validator(mode="after")
    def _overlap_below_tile(self) -> Self:
        if self.overlap >= self.tile:
            raise ValueError(f"overlap must stay below tile, {self.tile}")
        return self

    @property
    def archive_limits(self) -> ArchiveLimits:
        """The caps on the source."""
        return ArchiveLimits(self.max_members, self.max_member_bytes, self.max_total_bytes, self.max_ratio)

    @property
    def raster_limits(self) -> RasterLimits:
        """The caps on each image."""
        return RasterLimits(max_pixels=self.max_pixels, max_bands=self.max_bands)


@dataclass(frozen=True)
class SetAsideEntry:
    """A file that was not taken in, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class IngestReport:
    """What came in with a source. Counts are of this run, except where they say otherwise."""

    source: str
    kind: SourceKind
    already_there: bool
    """the source was done already, and nothing of it was read again"""
    scenes_added: int
    scenes_known: int
    """images that were in the workspace before this run"""
    tiles_added: int
    tiles_left_out: int
    """windows with too few pixels that hold data"""
    tiles_by_split: dict[str, int]
    """all tiles of the source's scenes; ``none`` are those on a border between splits and those that repeat another's pixels"""
    duplicates: list[dict[str, str]]
    """images with the very bytes of another one: their name, and the scene's (``same_as``)"""
    set_aside: list[SetAsideEntry]
    not_imagery: int
    """other files, such as labels"""


@dataclass
class _Tally:
    images: int = 0
    seen: int = 0
    scenes_known: int = 0
    tiles_added: int = 0
    tiles_left_out: int = 0
    unreadable: int = 0
    not_imagery: int = 0
    added: list[int] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)
    set_aside: dict[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> int:
        return len(self.added) + self.scenes_known + len(self.duplicates)


@dataclass(frozen=True)
class _Job:
    workspace: Workspace
    path: Path
    kind: SourceKind
    config: IngestConfig
    progress: Progress
    batch: SceneBatch
    tally: _Tally = field(default_factory=_Tally)

    def enter(self) -> None:
        entered = self.batch.enter()
        self.tally.added += entered.scenes
        self.tally.tiles_added += entered.tiles
        self.tally.tiles_left_out += entered.left_out

    def tick(self, name: str) -> None:
        self.progress(min(self.tally.seen, self.tally.images), self.tally.images, name)

    def members(self) -> Iterator[Member]:
        return read_members(self.path, self.config.archive_limits, exclude=self.workspace.root)


def ingest(workspace: Workspace, source: Path, config: IngestConfig | None = None, *, progress: Progress = silent) -> IngestReport:
    """Take the images of ``source`` into ``workspace`` as scenes and tiles.

    Args:
        workspace: where to.
        source: zip, tar, tar.gz, tar.bz2, a folder, or one JPEG, PNG or GeoTIFF.
        config: caps and tiling; defaults where None.
        progress: told of every image.

    Raises:
        BadInput: no such file, or a ``config`` that contradicts an earlier ingest.
        ArchiveRefused: no image in it, cut off, over a cap, or too many images that cannot be read; nothing of it is left behind.
        Cancelled: by ``progress``; what was finished stays, and the same call goes on from there.
    """
    path = Path(source).resolve()
    kind = source_kind(path)
    if path.is_relative_to(workspace.root.resolve()) and not path.is_relative_to(workspace.uploads.resolve()):
        raise BadInput(f"{str(source)!r} lies inside the workspace", expected="imagery from elsewhere", remedy="Name the original")
    config = config or IngestConfig()
    with workspace.worker_lock("ingest"), contextlib.closing(SceneBatch(workspace, config.ground)) as batch:
        job = _Job(workspace, path, kind, config, progress, batch)
        progress(0, 0, f"identifying {path.name}")
        identity = f"folder:{path}" if kind == "folder" else sha256_of(path)
        with workspace.session(write=False) as session:
            known = sources.find_source(session, identity)
            done = known is not None and known.state == "done" and kind != "folder"
            if known is not None and done and not sources.set_aside_of(session, known):
                return _report_of_done(session, known, job)
        return _run(job, identity)


def _run(job: _Job, identity: str) -> IngestReport:
    images = job.tally.images = _count_images(job)
    config = job.config
    with job.workspace.session() as session:
        source = sources.open_source(
            session,
            name=job.path.name,
            kind=job.kind,
            identity=identity,
            config={
                "tile": config.tile,
                "overlap": config.overlap,
                "minimum_valid_share": config.minimum_valid_share,
                "ground": config.ground,
            },
        )
        decide_splits(session, config.split, scenes=images, tile=config.tile, overlap=config.overlap)
        done = sources.scene_hashes(session, source)
        kept = sources.scene_files(session)
    _sweep_orphans(job.workspace, kept)
    try:
        for member in job.members():
            job.tally.seen += _take(job, source, member, done)
            if job.batch.is_full:
                job.enter()
            job.tick(member.name)
        job.enter()
        _refuse_if_unusable(job)
    except Cancelled:
        job.enter()
        raise
    except ArchiveRefused:
        _undo(job, source)
        raise
    return _finish(job, source)


def _count_images(job: _Job) -> int:
    """How many images the source seems to hold, by their first bytes; looks through all of it.

    Raises:
        ArchiveRefused: none, or the source is cut off or over a cap.
    """
    images = 0
    first_refusal = ""
    for looked_at, member in enumerate(job.members(), start=1):
        try:
            if member.refusal is None:
                with member.open() as reader:
                    images += sniff(reader.peek(MAGIC_BYTES)) is not None
            else:
                first_refusal = first_refusal or f" ({member.name!r} is refused: {member.refusal})"
        except UnreadableImage as error:
            first_refusal = first_refusal or f" ({error.found})"
        job.progress(0, 0, f"looking through {job.path.name}: {looked_at}")
    if not images and job.kind == "file":
        raise ArchiveRefused(
            f"{job.path.name!r} is neither an archive nor an image",
            expected="a zip or tar archive, a folder, or a JPEG, PNG or GeoTIFF",
            remedy="Check the file; an archive that was cut off while it was copied looks like this too",
        )
    if not images:
        raise ArchiveRefused(
            f"no image in {job.path.name!r}{first_refusal}", expected="JPEG, PNG or GeoTIFF files", remedy="Check what the source holds"
        )
    return images


def _take(job: _Job, source: Source, member: Member, done: dict[str, str]) -> bool:
    """Take one member in, or set it aside; returns whether it was an image."""
    tally = job.tally
    if member.refusal is not None:
        tally.set_aside[member.name] = member.refusal
        return False
    if job.kind != "folder" and member.name in done:
        tally.scenes_known += 1
        return True
    try:
        with member.open() as reader:
            head = reader.peek(MAGIC_BYTES)
            driver = sniff(head)
            if driver is None:
                _pass_over(member, head, tally)
            else:
                _take_image(job, source, member, reader, driver, done.get(member.name))
        return driver is not None
    except UnreadableImage as error:
        tally.unreadable += 1
        tally.set_aside[member.name] = _reason(error, member)
        return True


def _reason(error: UnreadableImage, member: Member) -> str:
    """What is wrong, without the name that stands beside it in the report."""
    reason = error.found
    for name in (member.name, PurePosixPath(member.name).name):
        reason = reason.removeprefix(f"{name!r} ")
    return NAME_WHILE_UNPACKED.sub("", reason)


def _pass_over(member: Member, head: bytes, tally: _Tally) -> None:
    suffix = PurePosixPath(member.name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        raise UnreadableImage(f"named as an image, but begins with {head!r}: no JPEG, PNG or GeoTIFF" if head else "an empty file")
    if suffix in ARCHIVE_SUFFIXES:
        tally.set_aside[member.name] = "an archive inside the source; ingest it by itself"
    else:
        tally.not_imagery += 1


def _take_image(job: _Job, source: Source, member: Member, reader: MemberReader, driver: str, known_hash: str | None) -> None:
    """Unpack, decode and cut one image, and store it with its tiles.

    Raises:
        UnreadableImage: damaged, over a cap, or changed under our hands.
    """
    in_place = member.path if job.kind == "folder" else None

    def tick() -> None:
        job.tick(member.name)

    unpacked = job.batch.new_file() if in_place is None else None
    image, before = in_place or unpacked, _identity_of(in_place) if in_place is not None else None
    assert image is not None, "it lies in the folder, or is unpacked"
    own = {unpacked} if unpacked is not None else set()
    try:
        with contextlib.nullcontext() if unpacked is None else unpacked.open("wb") as stream:
            digest = reader.copy_to(stream, tick)
        if known_hash not in (None, digest):
            raise UnreadableImage("its content changed since it was ingested; ingest the new one under another name")
        if _is_known(job, source, member.name, digest):
            return
        suffix = EXTENSIONS[driver]
        if needs_tiling(inspect_raster(image, job.config.raster_limits)):
            tiled, suffix = job.batch.new_file(), "tif"
            own.add(tiled)
            rewrite_tiled(image, tiled, job.config.raster_limits)
            image, in_place = tiled, None
        config = job.config
        cut = cut_scene(
            image,
            tile=config.tile,
            overlap=config.overlap,
            minimum_valid_share=config.minimum_valid_share,
            limits=config.raster_limits,
            tick=tick,
        )
        if before is not None and member.path is not None and _identity_of(member.path) != before:
            raise UnreadableImage("the file changed while it was read")
        stored = str(in_place) if in_place is not None else f"{job.workspace.scenes.name}/{digest}.{suffix}"
        scene = _scene(source, member.name, digest, stored, in_place is not None, cut.info)
        job.batch.add(scene, cut, None if in_place is not None else image)
        own.discard(image)
    finally:
        for file in own:
            file.unlink(missing_ok=True)


def _identity_of(path: Path) -> tuple[int, int, int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_known(job: _Job, source: Source, name: str, digest: str) -> bool:
    known = job.batch.scene(digest)
    if known is None:
        return False
    if known.name == name:
        job.tally.scenes_known += 1
        return True
    if job.batch.holds(digest):
        job.enter()
    job.batch.rename(known, source.id, name)
    job.tally.duplicates[name] = known.name
    return True


def _scene(source: Source, name: str, digest: str, path: str, referenced: bool, info: RasterInfo) -> Scene:
    place = info.georeference
    return Scene(
        source_id=source.id,
        name=name,
        content_hash=digest,
        path=path,
        referenced=referenced,
        width=info.width,
        height=info.height,
        bands=info.bands,
        dtype=info.dtype,
        crs_wkt=place.crs_wkt if place else None,
        transform=list(place.transform) if place else None,
        ground_sample_distance=info.ground_sample_distance,
        captured=info.captured,
    )


def _refuse_if_unusable(job: _Job) -> None:
    tally = job.tally
    first = next(iter(tally.set_aside.items()), ("", ""))
    if not tally.usable:
        raise ArchiveRefused(
            f"no image in {job.path.name!r} can be used ({first[0]!r}: {first[1]})", remedy="Check the images, or convert them"
        )
    images = tally.unreadable + tally.usable
    if tally.unreadable / images > job.config.maximum_set_aside_share:
        raise ArchiveRefused(
            f"{tally.unreadable} of {images} images in {job.path.name!r} cannot be read (the first, {first[0]!r}: {first[1]})",
            expected=f"at most a share of {job.config.maximum_set_aside_share:g}",
            remedy="Copy them again, or raise maximum_set_aside_share",
        )


def _undo(job: _Job, source: Source) -> None:
    """Leave nothing of a refused source: all of it where it never was done, else what this run added."""
    with job.workspace.session() as session:
        if source.state == "done":
            sources.forget_scenes(session, job.tally.added)
        else:
            sources.forget_source(session, source)
        kept = sources.scene_files(session)
    _sweep_orphans(job.workspace, kept)


def _sweep_orphans(workspace: Workspace, kept: set[str]) -> None:
    """Remove unpacked files that no scene refers to: a crash came between the file and the catalog."""
    for path in workspace.scenes.iterdir():
        if UNPACKED.fullmatch(path.name) and f"{workspace.scenes.name}/{path.name}" not in kept:
            path.unlink()


def _finish(job: _Job, source: Source) -> IngestReport:
    with job.workspace.session() as session:
        sources.close_source(session, source, job.tally.set_aside)
        report = _report(session, source, job, already_there=False)
        record(
            session,
            "ingest",
            source=source.name,
            scenes_added=report.scenes_added,
            tiles_added=report.tiles_added,
            set_aside=len(report.set_aside),
        )
        return report


def _report_of_done(session: Session, source: Source, job: _Job) -> IngestReport:
    job.tally.scenes_known = len(sources.scene_hashes(session, source))
    job.tally.set_aside = dict(sources.set_aside_of(session, source))
    return _report(session, source, job, already_there=True)


def _report(session: Session, source: Source, job: _Job, *, already_there: bool) -> IngestReport:
    tally = job.tally
    return IngestReport(
        source=source.name,
        kind=job.kind,
        already_there=already_there,
        scenes_added=len(tally.added),
        scenes_known=tally.scenes_known,
        tiles_added=tally.tiles_added,
        tiles_left_out=tally.tiles_left_out,
        tiles_by_split=sources.tiles_by_split(session, source),
        duplicates=[{"name": name, "same_as": other} for name, other in sorted(tally.duplicates.items())],
        set_aside=[SetAsideEntry(name, reason) for name, reason in sorted(tally.set_aside.items())],
        not_imagery=tally.not_imagery,
    )
