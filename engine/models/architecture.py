"""The architecture of a detector, each of its levers a switch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from engine.config import StageConfig

__all__ = ["BEFORE_REGIONS", "DetectorConfig"]

BEFORE_REGIONS = {
    "pyramid": False,
    "pyramid_norms": True,
    "proposal_loss": "dense",
    "region_features": 0,
    "supervision": "one-to-one",
    "class_loss": "varifocal",
    "residual_classes": True,
    "region_stage": 0,
    "region_channels": 0,
    "region_fine": False,
    "further_looks": 0,
    "decoder_share": 1.0,
    "proposal_boxes": "overlap",
}
"""What a saved configuration meant that does not name these settings."""


class DetectorConfig(StageConfig):
    """Architecture of a detector. Saved with every model; a model loads only into the same architecture."""

    architecture: Literal["deformable", "detr"] = "deformable"
    """deformable: multi-scale deformable attention. detr: the dense transformer of the DETR paper on one feature level; it has learned
    queries, a softmax with a no-object class and one set of heads, and every setting below that says so does not concern it."""
    backbone: str = "tf_efficientnet_lite0"
    """Any timm model with features_only."""
    backbone_weights: str = Field(default="packaged", pattern=r"^(packaged|none|.+\.safetensors)$")
    """Where the backbone starts: "packaged" ImageNet weights (EfficientNet-Lite0 only), "none" (random), or a safetensors file; stages
    take the name of one that `tilehawk models import` made."""
    feature_levels: tuple[int, ...] = Field(default=(2, 3, 4), min_length=1)
    """timm feature levels that become memory, finest first; 2 is stride 8. Small objects need it. detr: one level, 4 (C5) or 3 (C4)."""
    extra_level: bool = False
    """One more level at half the coarsest resolution, by a 3 × 3 convolution with stride 2 (Deformable DETR, appendix A.4; not detr)."""
    frozen_stages: int = Field(default=3, ge=-1)
    """Backbone parts that fine-tuning leaves as they are: 3 = stem and two stages; -1 = all."""
    dimension: int = Field(default=128, ge=16, multiple_of=16)
    """D, channels of tokens and queries."""
    heads: int = Field(default=8, ge=1)
    """Attention heads."""
    points: int = Field(default=4, ge=1)
    """Sampling points a head and level (not detr)."""
    feedforward: int = Field(default=512, ge=16)
    """Channels inside the feed-forward parts."""
    encoder_layers: int = Field(default=0, ge=0)
    """Encoder layers; with a pyramid there may be none. In detr, where it is not said, one."""
    decoder_layers: int = Field(default=1, ge=1)
    """Decoder layers. In detr, where it is not said, two."""
    pyramid: bool = True
    """A top-down pathway before the encoder layers: coarse levels tell fine ones what they show (FPN, section 3; not detr)."""
    pyramid_norms: bool = False
    """Group norms in the top-down pathway and before it, and a norm behind pre-norm encoder layers. Without them what lies in a box
    keeps its strength, from which the region stage learns much sooner (only with pyramid; not detr)."""
    encoder_norm: Literal["pre", "post"] = "pre"
    """Layer norms of the encoder before its parts (stable at high rates) or after them, as in the papers."""
    decoder_norm: Literal["pre", "post"] = "post"
    """The same of the decoder."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in encoder and decoder; 0.1 in the papers."""
    position: Literal["fine", "paper"] = "fine"
    """Sine embeddings of token positions: temperature 20, or 10,000 as in the papers (always so in detr)."""
    queries: Literal["proposals", "mixed", "coordinates", "learned"] = "proposals"
    """Where queries come from. proposals: content and box from the proposals. mixed: box from them, content learned (DINO, section
    3.4). coordinates: content and position embedded from their boxes (Deformable DETR, two-stage). learned: no proposals (not detr)."""
    proposal_head: Literal["tower", "linear"] = "tower"
    """What makes proposals of tokens: convolutions with priors in units of tokens, or one linear layer (Deformable DETR; not detr)."""
    proposal_loss: Literal["centres", "dense", "matched"] = "centres"
    """How proposals are supervised. centres: one-to-many, tokens near an object's centre on the level that fits its size (FCOS). dense:
    one-to-many, those that already answer best (TOOD). matched: one-to-one (Deformable DETR; as one class where queries = coordinates;
    not detr)."""
    proposal_boxes: Literal["relative", "overlap"] = "relative"
    """What one-to-many proposals' boxes are taught by: L1 in units of the object's size, or L1 and generalized IoU as in the decoder."""
    num_queries: int = Field(default=200, ge=1)
    """Object queries: the most objects that a tile can hold; in detr, where it is not said, as many as patch_slots."""
    proposal_candidates: int = Field(default=300, ge=1)
    """Proposals among which duplicates are suppressed before queries are chosen (not detr)."""
    proposal_iou: float = Field(default=0.7, gt=0, le=1)
    """Overlap above which a proposal counts as a duplicate of a better one; 1 keeps all (not detr)."""
    refinement: bool = True
    """Every decoder layer moves the boxes of the one before; without, all start from the same references (not detr)."""
    look_forward_twice: bool = False
    """A layer's box loss reaches the layer before too (DINO, section 3.5; not detr)."""
    box_moves: Literal["relative", "logit"] = "relative"
    """Boxes move in units of their own size (R-CNN), or by adding to their inverse sigmoid (Deformable DETR; not detr)."""
    residual_classes: bool = True
    """Decoder class logits are residuals on those of the region stage, or of the proposals where there is none (not detr)."""
    denoising_groups: int = Field(default=0, ge=0)
    """Groups of noised objects that the decoder learns to repair (contrastive denoising; DINO, section 3.3); 0 for none (not detr)."""
    denoising_label_noise: float = Field(default=0.5, ge=0, le=1)
    """Share of noised objects whose class is drawn anew with chance one half."""
    denoising_box_noise: float = Field(default=0.4, gt=0, le=1)
    """λ: corners of positives move by up to λ half sides, those of negatives by one to two times as much."""
    region_stage: int = Field(default=1024, ge=0)
    """Channels of the stage between proposals and decoder, which answers for every query from what its box shows (Fast R-CNN, section
    2); 0 for none (not detr)."""
    region_channels: int = Field(default=64, ge=0)
    """Channels of memory that the region stage reads, by a linear map; 0 for all of them as they are."""
    region_fine: bool = True
    """The region stage reads a level more, of twice the resolution: the backbone's before the first of feature_levels, to which the finest
    level of memory is added (FPN, section 3, without smoothing). Small boxes fit much tighter with it."""
    region_truth: int = Field(default=32, ge=0)
    """In training, so many known boxes an image join what the region stage answers for: its objects as they are, then moved copies."""
    region_noise: float = Field(default=0.5, gt=0, le=1)
    """Corners of moved copies move by up to so many half sides."""
    region_boxes: Literal["moves", "overlap"] = "moves"
    """What the region stage's boxes are taught by: the error of their moves in units of the starting box (Fast R-CNN, equation 3), or L1
    and generalized IoU as in the decoder."""
    region_looks: int = Field(default=2, ge=1)
    """How often the region stage looks: every time at boxes that it moved before, of which each must fit better by a tenth to answer for
    an object (Cascade R-CNN, section 4, with one set of weights)."""
    further_looks: int = Field(default=1, ge=0)
    """How many looks more the region stage takes when it answers than when it is trained: its weights are the same at each."""
    region_weight: float = Field(default=1.0, gt=0)
    """Weight of the region stage's losses: large enough for backbone and pyramid to learn for it and not for the proposals alone."""
    decoder_weight: float = Field(default=0.1, gt=0)
    """Weight of each decoder layer's losses, where there is a region stage; else 1."""
    decoder_share: float = Field(default=0.5, gt=0, le=1)
    """Where there is a region stage, how far the answer goes from what it says to what the last decoder layer says: a half for the mean of
    both, 1 for the decoder alone."""
    region_features: int = Field(default=7, ge=0)
    """Side of the grid of points that is read in every query's box (RoIAlign); 0 for none (not detr)."""
    region_layers: int = Field(default=0, ge=0)
    """The first so many decoder layers get region features, which join their content."""
    region_hidden: int = Field(default=0, ge=0)
    """Channels between the grid and the query's content; 0 for one linear layer."""
    supervision: Literal["one-to-one", "one-to-many"] = "one-to-many"
    """Which queries answer for an object: the one that fits best (DETR), or all that started on it (Faster R-CNN); then duplicates are
    suppressed after the decoder (detr: always one-to-one)."""
    positive_iou: float = Field(default=0.5, gt=0, le=1)
    """Overlap from which a starting box answers for an object, in the region stage and in one-to-many supervision."""
    class_loss: Literal["varifocal", "focal", "quality", "presence"] = "quality"
    """Class loss of the decoder: varifocal on the IoU, focal (Deformable DETR), plain cross-entropy on the IoU, or on whether an object is
    there (not detr)."""
    no_object_weight: float = Field(default=0.1, gt=0, le=1)
    """Weight of the no-object class (detr alone)."""
    patch_slots: int = Field(default=100, ge=1)
    """Learned query slots that carry query patches in pre-training and one-shot detection; in detr the object queries themselves."""
    one_shot: bool = False
    """The detector looks for what a query patch shows, in place of known classes: the patch joins memory, and there is one class."""
    image_size: int = Field(default=320, ge=64, multiple_of=32)
    """Side of the square input in pixels; smaller tiles are padded at the right and bottom with black."""

    @property
    def two_stage(self) -> bool:
        """Whether queries come from the encoder's proposals."""
        return self.architecture == "deformable" and self.queries != "learned"

    @property
    def reads_fine(self) -> bool:
        """Whether the backbone's level before ``feature_levels`` is read."""
        return self.two_stage and self.region_stage > 0 and self.region_fine

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_detr(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("architecture") != "detr":
            return values
        queries = values.get("patch_slots", cls.model_fields["patch_slots"].default)
        return {"num_queries": queries, "encoder_layers": 1, "decoder_layers": 2} | values

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.dimension % self.heads:
            raise ValueError(f"heads = {self.heads} must divide dimension = {self.dimension}")
        if self.architecture == "detr":
            return self._fits_detr()
        if self.two_stage and self.proposal_candidates < self.num_queries:
            raise ValueError(f"proposal_candidates = {self.proposal_candidates} must be at least num_queries = {self.num_queries}")
        if self.queries in ("learned", "coordinates") and self.residual_classes and not self.region_stage:
            raise ValueError(f"queries = {self.queries!r} carry no class logits: set residual_classes to false")
        if self.queries == "learned" and self.box_moves != "logit":
            raise ValueError("queries = 'learned' start from points without a size: set box_moves to 'logit'")
        if self.region_stage and not self.region_features:
            raise ValueError("region_features = 0: set region_stage to 0 too")
        if self.reads_fine and self.feature_levels[0] == 0:
            raise ValueError("feature_levels start at 0, before which there is no finer one: set region_fine to false")
        if self.queries == "learned" and self.region_features:
            raise ValueError("queries = 'learned' start from points without a box: set region_features to 0")
        if self.queries == "learned" and self.supervision == "one-to-many":
            raise ValueError("queries = 'learned' start from points without a box: set supervision to 'one-to-one'")
        if self.denoising_groups and self.queries not in ("proposals", "mixed"):
            raise ValueError(f"denoising_groups = {self.denoising_groups} needs queries = 'proposals' or 'mixed', not {self.queries!r}")
        if self.proposal_loss != "matched" and self.queries == "coordinates":
            raise ValueError("queries = 'coordinates' choose by objectness: set proposal_loss to 'matched'")
        return self

    def _fits_detr(self) -> Self:
        if len(self.feature_levels) != 1:
            raise ValueError(f"feature_levels = {self.feature_levels}: detr has one, (4,) or (3,)")
        if self.patch_slots != self.num_queries:
            raise ValueError(
                f"patch_slots = {self.patch_slots} must equal num_queries = {self.num_queries}: detr's queries carry the patches"
            )
        untouched = (
            "extra_level",
            "pyramid",
            "region_features",
            "region_stage",
            "region_layers",
            "supervision",
            "queries",
            "denoising_groups",
            "look_forward_twice",
            "class_loss",
            "box_moves",
            "residual_classes",
            "refinement",
        )
        changed = [name for name in untouched if getattr(self, name) != type(self).model_fields[name].default]
        if changed:
            raise ValueError(f"{changed[0]} = {getattr(self, changed[0])!r} does not concern detr: leave it out")
        return self
