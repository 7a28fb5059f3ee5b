"""What a pre-training run teaches: one pretext task or several side by side, put together from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import model_validator

from engine.config import StageConfig
from engine.errors import UsageError
from engine.models.detector import Detector, DetectorConfig
from engine.pretext.encoder_tasks import EncoderTask, EncoderTaskConfig, require_fits, require_use
from engine.pretext.query_patches import PatchConfig, QueryPatchTask
from engine.pretext.regions import RegionConfig, RegionTask, require_region_stage
from engine.pretext.taught_regions import RegionStore, taught_regions
from engine.pretext.tokenizer import Tokenizer, TokenizerConfig, kept_tokenizer
from engine.progress import Progress, silent
from engine.training.data import TileSource
from engine.training.joint import JointTask, WeightConfig, Weighted
from engine.training.one_shot import OneShotTask, QueryBank
from engine.training.task import Task

__all__ = ["Pretext", "PretextConfig", "plan_pretext", "require_slots"]


class PretextConfig(StageConfig):
    """What is learned without labels: patches, encoder, regions, or several of them; regions where none of the three is said."""

    patches: PatchConfig | None = None
    """Random query patches (UP-DETR): teaches the decoder and the query slots of one-shot search; null leaves it out."""
    patches_weight: WeightConfig = WeightConfig()
    """How much they count."""
    encoder: EncoderTaskConfig | None = None
    """Reconstruction, MIM or jigsaw: teaches the encoder; null leaves it out."""
    encoder_weight: WeightConfig = WeightConfig()
    """How much it counts."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """The vocabulary of mim-discrete."""
    tokenizer_from: str | None = None
    """The model whose vocabulary is taken, in place of making one."""
    regions: RegionConfig | None = None
    """Regions that stand out (DETReg): teaches every part that detects; null leaves it out, unless nothing else is said either."""
    regions_weight: WeightConfig = WeightConfig()
    """How much they count."""
    freeze_backbone: bool | None = None
    """The backbone stays as it is, else its trainable stages learn too; none for true where patches are taught, whose features it must not
    bend, and false elsewhere."""

    @model_validator(mode="before")
    @classmethod
    def _regions_where_nothing_is_said(cls, given: Any) -> Any:
        return {**given, "regions": {}} if isinstance(given, dict) and not {"patches", "encoder", "regions"} & set(given) else given

    @model_validator(mode="after")
    def _teaches_something(self) -> Self:
        if self.patches is None and self.encoder is None and self.regions is None:
            raise ValueError("patches, encoder and regions are all null: nothing is learned")
        return self

    @model_validator(mode="after")
    def _names_with_what_it_takes(self) -> Self:
        require_use(self.encoder, self.tokenizer_from)
        return self

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays as it is."""
        return self.patches is not None if self.freeze_backbone is None else self.freeze_backbone

    @property
    def classes(self) -> int:
        """How many classes the detector has while it learns."""
        return self.regions.classes if self.regions else 0


class Pretext(NamedTuple):
    """What the training loop gets."""

    task: Task
    source: TileSource
    tokenizer: Tokenizer | None
    """of mim-discrete, to be kept with the model"""
    encoder: EncoderTask | None
    """for pictures"""
    patches: QueryPatchTask | None
    """for pictures"""
    regions: RegionTask | OneShotTask | None = None
    """for pictures; the tiles of ``source`` then have the regions in place of labels"""


def plan_pretext(
    model: Detector,
    config: PretextConfig,
    source: TileSource,
    *,
    seed: int,
    vocabulary: Path | None = None,
    keep: Path | None = None,
    origin: str = "",
    regions: RegionStore | None = None,
    progress: Progress = silent,
) -> Pretext:
    """Make the task of a run and the tiles that it is taught on.

    Args:
        model: as it starts, with ``config.classes`` classes.
        config: what is learned.
        source: unlabelled tiles.
        seed: of regions and vocabulary.
        vocabulary: the file of the one of ``config.tokenizer_from``.
        keep: folder in which the vocabulary is kept, and found again by the same run; None for none.
        origin: where the tiles come from, see :class:`~engine.pretext.tokenizer.Tokenizer`.
        regions: those that were found on these tiles before; None to find them in any case.
        progress: told while regions and vocabulary are made.

    Raises:
        UsageError: the tasks do not fit the detector.
        NothingToDo: too few tiles for the clusters or words.
        CheckpointRefused: the vocabulary is damaged, of other tiles, or its backbone is of another architecture.
    """
    _require_fitting(model, config)
    tasks: dict[str, Weighted] = {}
    tokenizer, encoder, patches, taught = None, None, None, None
    frozen = config.frozen
    if config.regions:
        source = taught_regions(model, config.regions, source, seed=seed, store=regions, progress=progress)
        taught = _region_task(model, config.regions, source, frozen=frozen, progress=progress)
        tasks["regions"] = Weighted(taught, config.regions_weight)
    if config.patches:
        patches = QueryPatchTask(model, config.patches, freeze_backbone=frozen)
        tasks["patches"] = Weighted(patches, config.patches_weight)
    if config.encoder:
        if config.encoder.task == "mim-discrete":
            tokenizer = kept_tokenizer(
                source,
                config.tokenizer,
                patch=config.encoder.patch,
                words=config.encoder.vocabulary,
                network=model,
                seed=seed,
                given=vocabulary,
                keep=keep,
                origin=origin,
                progress=progress,
            )
        encoder = EncoderTask(model, config.encoder, tokenizer=tokenizer, freeze_backbone=frozen)
        tasks["encoder"] = Weighted(encoder, config.encoder_weight)
    only = next(iter(tasks.values()))
    plain = len(tasks) == 1 and only.weight == WeightConfig()
    return Pretext(only.task if plain else JointTask(tasks), source, tokenizer, encoder, patches, taught)


def _require_fitting(model: Detector, config: PretextConfig) -> None:
    """Refuse tasks that do not fit the detector before anything is made for them."""
    require_slots(model.config, config)
    if config.encoder:
        require_fits(config.encoder, model)
    if config.regions:
        require_region_stage(config.regions, model.config)
    learns_classes = config.regions is not None and config.regions.taught != "look-alikes"
    if model.config.denoising_groups and not learns_classes:
        raise UsageError(
            f"detector.denoising_groups = {model.config.denoising_groups}, and nothing taught whose boxes could be moved",
            expected="0, or regions that are clusters, embeddings or boxes",
            remedy="Set regions, or leave denoising_groups out: `tilehawk finetune` may have it all the same",
        )


def require_slots(detector: DetectorConfig, config: PretextConfig) -> None:
    """Refuse patches that cannot share the slots out.

    Raises:
        UsageError: their number does not divide that of the slots.
    """
    slots = detector.patch_slots
    if config.patches and slots % config.patches.patches:
        raise UsageError(
            f"patches.patches = {config.patches.patches} with detector.patch_slots = {slots}",
            expected=f"a divisor of the slots: {', '.join(str(count) for count in range(1, slots + 1) if not slots % count)}",
            remedy="Change one of the two",
        )


def _region_task(
    model: Detector, config: RegionConfig, regions: TileSource, *, frozen: bool, progress: Progress
) -> RegionTask | OneShotTask:
    if config.taught != "look-alikes":
        return RegionTask(model, config, freeze_backbone=frozen)
    bank = QueryBank(regions, config.asked.patch_size, progress=progress)
    return OneShotTask(model, bank, config.asked, freeze_backbone=frozen)
