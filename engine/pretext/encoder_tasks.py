"""Five tasks by which the encoder learns from unlabelled images (encoder SSL on aerial images, section 3).

Reconstruction: paint the image that was shown. MIM: paint, or name by a vocabulary, the patches that were hidden. Jigsaw: paint the image
as it was before patches changed places, or say where each came from. Every task reads the encoder's tokens alone, through one head.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from engine.config import StageConfig
from engine.errors import UsageError
from engine.models.detector import Detector
from engine.models.encoder import Memory
from engine.pretext.patch_grid import Changed, choose, content, from_patches, hide, informative, move, to_patches
from engine.pretext.tokenizer import Tokenizer
from engine.training.data import Sample
from engine.training.detection import dropout_from, stack_images
from engine.training.joint import Curve, falling

__all__ = ["EncoderTask", "EncoderTaskConfig", "EncoderTaskName", "Shown", "require_fits", "require_use"]

MOVED_AT_LEAST = 2
"""One patch alone has nowhere to go."""

EncoderTaskName = Literal["reconstruction", "mim-continuous", "mim-discrete", "jigsaw-continuous", "jigsaw-discrete"]


class EncoderTaskConfig(StageConfig):
    """What the encoder is asked."""

    task: EncoderTaskName = "mim-continuous"
    """The task."""
    ratio: float = Field(default=0.5, ge=0, le=1)
    """Share of an image's patches that are hidden or moved, at the beginning of the run; reconstruction has none."""
    ratio_end: float = Field(default=0.0, ge=0, le=1)
    """The share at the end of the run, where the curve is not constant."""
    ratio_curve: Curve = "constant"
    """How it goes from the one to the other. A share that has become too small to change a patch teaches nothing from then on."""
    patch: int = Field(default=32, ge=4)
    """Side of a patch in pixels: a multiple of the stride of every level that is read, and a divisor of image_size."""
    levels: Literal["largest", "every"] = "largest"
    """Which levels of memory answer: the one of the finest tokens (the paper), or each of them, about the same patches."""
    loss_on: Literal["changed", "all"] = "changed"
    """On which patches the loss is taken: those hidden or moved, or all of them (always so for reconstruction)."""
    hidden: bool = True
    """A hidden layer in the head: without it all that the head needs must be in the tokens."""
    vocabulary: int = Field(default=256, ge=2)
    """Visual words of mim-discrete."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.task != "reconstruction" and self.loss_on == "changed" and not self.largest_ratio:
            raise ValueError("ratio = 0 with loss_on = 'changed': there is nothing to learn from")
        return self

    @property
    def largest_ratio(self) -> float:
        """The largest share of the run."""
        return self.ratio if self.ratio_curve == "constant" else max(self.ratio, self.ratio_end)

    def ratio_at(self, done: float) -> float:
        """The share when the share ``done`` of the run is done, in [0, 1]."""
        return falling(self.ratio, self.ratio_end, self.ratio_curve, done)


def _read_strides(config: EncoderTaskConfig, model: Detector) -> list[int]:
    """Pixels a token of the levels that answer, finest first."""
    strides = [*model.strides, *([2 * model.strides[-1]] if model.config.extra_level else [])]
    return strides[:1] if config.levels == "largest" else strides


def require_fits(config: EncoderTaskConfig, model: Detector) -> None:
    """Refuse patches that the model's tokens do not fill, and a ratio of them that changes none.

    Raises:
        UsageError: the patch is no multiple of a stride that is read, or no divisor of the image; or too few patches are hidden or moved.
    """
    size = model.config.image_size
    read = _read_strides(config, model)
    if size % config.patch or any(config.patch % stride for stride in read):
        raise UsageError(
            f"patch = {config.patch} with image_size = {size} and levels of stride {read}",
            expected=f"a divisor of {size} that is a multiple of {max(read)}",
            remedy="Set patch, or levels to 'largest'",
        )
    if config.task == "reconstruction" or config.loss_on == "all":
        return
    patches, needed = (size // config.patch) ** 2, MOVED_AT_LEAST if config.task.startswith("jigsaw") else 1
    changed = round(config.largest_ratio * patches)
    if changed < needed:
        raise UsageError(
            f"ratio = {config.largest_ratio:g} of the {patches} patches of {config.patch} px in {size} px changes {changed}",
            expected=f"{needed} at least",
            remedy="Set a larger ratio, or a smaller patch",
        )


def require_use(encoder: EncoderTaskConfig | None, vocabulary: str | None) -> None:
    """Refuse a vocabulary that nothing is named with.

    Raises:
        ValueError: there is one, and no mim-discrete.
    """
    if vocabulary is not None and (encoder is None or encoder.task != "mim-discrete"):
        raise ValueError(f"tokenizer_from = {vocabulary!r} without encoder.task = 'mim-discrete', which alone has a vocabulary")


class _Head(nn.Module):
    """What one level's tokens say: pixels each for itself, or a class a patch from the mean of its tokens."""

    def __init__(self, dimension: int, outputs: int, *, hidden: bool) -> None:
        super().__init__()
        first: list[nn.Module] = [nn.Linear(dimension, dimension), nn.ReLU(inplace=True)] if hidden else []
        self.layers = nn.Sequential(*first, nn.Linear(dimension, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        answer: Tensor = self.layers(tokens)
        return answer


class Shown(NamedTuple):
    """A batch as a person may look at it; images (B, 3, S, S) in [0, 1]."""

    given: Tensor
    """what the encoder saw"""
    wanted: Tensor
    """what was asked for"""
    answered: Tensor
    """what was answered, by the finest level"""


class EncoderTask:
    """Learn one of the five tasks.

    Differences from the published code: hidden patches have the colour that normalisation makes 0; the loss is on the patches that moved,
    not on those that did not; padding is never asked for, and patches with much of it stay where they are;
    discrete tasks speak of patches, not of tokens.

    Args:
        model: whose backbone and encoder learn.
        config: the task.
        tokenizer: the vocabulary of mim-discrete; None for the others.
        freeze_backbone: the encoder learns alone.

    Raises:
        UsageError: the patches do not fit the model, or there is no tokenizer of these patches and words for mim-discrete.
    """

    def __init__(
        self, model: Detector, config: EncoderTaskConfig, *, tokenizer: Tokenizer | None = None, freeze_backbone: bool = False
    ) -> None:
        require_fits(config, model)
        if config.task == "mim-discrete":
            _require_words(config, tokenizer)
        self.detector, self._config, self._tokenizer = model, config, tokenizer
        if freeze_backbone:
            model.backbone.freeze(-1)
        size = model.config.image_size
        outputs = {"mim-discrete": config.vocabulary, "jigsaw-discrete": (size // config.patch) ** 2}.get(config.task)
        self.heads = nn.ModuleList(
            _Head(model.config.dimension, outputs or 3 * stride * stride, hidden=config.hidden) for stride in _read_strides(config, model)
        )
        self.model: nn.Module = nn.ModuleDict({"detector": model, "heads": self.heads})

    @property
    def classes(self) -> None:
        """None: nothing is labelled."""

    @property
    def _paints(self) -> bool:
        return not self._config.task.endswith("discrete")

    def _change(self, images: Tensor, ratio: float, generator: torch.Generator) -> tuple[Changed, Tensor]:
        """The images as they are shown, and the patches (B, P) that there is something to learn from."""
        config = self._config
        taught = informative(to_patches(images, config.patch))
        if config.task == "reconstruction":
            return hide(images, torch.zeros_like(taught), self.detector.mean.flatten(), config.patch), taught
        if config.task.startswith("mim"):
            return hide(images, choose(taught, ratio, generator), self.detector.mean.flatten(), config.patch), taught
        return move(images, choose(taught, ratio, generator, least=2), config.patch, generator), taught

    def _levels(self, memory: Memory) -> list[Tensor]:
        """Maps (B, H, W, D) of the levels that answer."""
        split = torch.split(memory.tokens, [height * width for height, width in memory.shapes], dim=1)
        return [tokens.reshape(len(tokens), *shape, -1) for tokens, shape in zip(split, memory.shapes, strict=True)][: len(self.heads)]

    def _painted(self, head: nn.Module, tokens: Tensor) -> Tensor:
        """Normalised pixels (B, P, 3, s, s) of the patches."""
        batch, height, width, _ = tokens.shape
        stride = self.detector.config.image_size // height
        pixels = head(tokens).float().view(batch, height * width, 3, stride, stride)
        return to_patches(from_patches(pixels, width), self._config.patch)

    def _named(self, head: nn.Module, tokens: Tensor) -> Tensor:
        """Logits (B, P, K) of the patches."""
        side = self.detector.config.image_size // self._config.patch
        batch, height, width, dimension = tokens.shape
        grouped = tokens.view(batch, side, height // side, side, width // side, dimension)
        logits: Tensor = head(grouped.mean((2, 4)).flatten(1, 2)).float()
        return logits

    def _normalised(self, images: Tensor) -> Tensor:
        return (images - self.detector.mean) / self.detector.std

    def _asked(self, changed: Changed, taught: Tensor) -> Tensor:
        return taught if self._config.task == "reconstruction" or self._config.loss_on == "all" else changed.chosen

    def _wanted_names(self, images: Tensor, changed: Changed) -> Tensor:
        if self._config.task == "jigsaw-discrete":
            return changed.origin
        assert self._tokenizer is not None
        return self._tokenizer.words(images)

    def loss(self, batch: list[Sample], generator: torch.Generator, done: float = 0.0, /) -> tuple[Tensor, dict[str, float]]:
        """Mean over the levels that answer of the L1 difference of normalised pixels, or of the cross-entropy, on the patches asked for."""
        images = stack_images(batch)
        changed, taught = self._change(images, self._config.ratio_at(done), generator)
        asked = self._asked(changed, taught)
        with dropout_from(generator, self.detector.config.dropout):
            memory = self.detector.encode(changed.images)
        levels = list(zip(self.heads, self._levels(memory), strict=True))
        count = asked.sum().clamp(min=1)
        if self._paints:
            wanted = to_patches(self._normalised(images), self._config.patch)
            held = content(wanted)
            differences = [_over_content((self._painted(head, tokens) - wanted).abs(), held) for head, tokens in levels]
            loss = torch.stack([(difference * asked).sum() / count for difference in differences]).mean()
            return loss, {"difference": float(loss.detach()), "patches": float(count)}
        names = self._wanted_names(images, changed)
        logits = [self._named(head, tokens) for head, tokens in levels]
        losses = [functional.cross_entropy(each.transpose(1, 2), names, reduction="none") for each in logits]
        loss = torch.stack([(each * asked).sum() / count for each in losses]).mean()
        right = ((logits[0].argmax(-1) == names) & asked).sum() / count
        return loss, {"cross_entropy": float(loss.detach()), "right": float(right), "patches": float(count)}

    @torch.no_grad()
    def show(self, batch: list[Sample], generator: torch.Generator) -> Shown:
        """What is asked and answered, as images (the paper's figure 10), where the most is hidden or moved.

        Discrete answers are shown as the patches that they name: a word by its mean patch, a place by putting the patch there.
        """
        images = stack_images(batch)
        changed, taught = self._change(images, self._config.largest_ratio, generator)
        tokens = self._levels(self.detector.encode(changed.images))[0]
        columns = images.shape[3] // self._config.patch
        if self._paints:
            painted = self._painted(self.heads[0], tokens) * self.detector.std + self.detector.mean
            if self._config.loss_on == "changed" and self._config.task != "reconstruction":
                kept = to_patches(changed.images, self._config.patch)
                painted = torch.where(changed.chosen[..., None, None, None], painted, kept)
            return Shown(changed.images, images, from_patches(painted.clamp(0, 1), columns))
        said = self._named(self.heads[0], tokens).argmax(-1)
        asked = self._asked(changed, taught)[..., None, None, None]
        if self._config.task == "jigsaw-discrete":
            shown = to_patches(changed.images, self._config.patch)
            rebuilt = torch.zeros_like(shown)
            for image, places in enumerate(torch.where(asked[..., 0, 0, 0], said, changed.origin)):
                rebuilt[image, places] = shown[image]
            return Shown(changed.images, images, from_patches(rebuilt, columns))
        assert self._tokenizer is not None
        patches = to_patches(images, self._config.patch)
        true, answered = (self._tokenizer.pictures(names).to(images) for names in (self._tokenizer.words(images), said))
        return Shown(
            changed.images,
            from_patches(torch.where(asked, true, patches), columns),
            from_patches(torch.where(asked, answered, patches), columns),
        )


def _over_content(difference: Tensor, held: Tensor) -> Tensor:
    """Mean (B, P) of (B, P, 3, s, s) over the pixels (B, P, s, s) that hold imagery."""
    pixels = held.flatten(2).sum(2).clamp(min=1)
    return (difference.mean(2) * held).flatten(2).sum(2) / pixels


def _require_words(config: EncoderTaskConfig, tokenizer: Tokenizer | None) -> None:
    if tokenizer is None:
        raise UsageError("mim-discrete without a tokenizer", remedy="Fit one on the tiles: engine.pretext.tokenizer.fit_tokenizer")
    if (tokenizer.patch, len(tokenizer.centres)) != (config.patch, config.vocabulary):
        raise UsageError(
            f"a tokenizer of {len(tokenizer.centres)} words for patches of {tokenizer.patch} px",
            expected=f"{config.vocabulary} words for patches of {config.patch} px",
            remedy="Fit one for this task, or set patch and vocabulary",
        )
