"""Sizes of the parts that all generations share. Importing this costs no torch."""

from dataclasses import dataclass

from typing_extensions import override


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEncoderConfig:
    """Sizes of a prompt encoder (SAM, section 3). ``patch_size`` is in px of the model's input."""

    dim: int = 256
    patch_size: int = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskDecoderConfig:
    """Sizes of a mask decoder (SAM, appendix A; SAM 2, appendix D)."""

    dim: int = 256
    num_heads: int = 8
    mlp_dim: int = 2048
    iou_head_dim: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneShape:
    """Width and number of blocks of a backbone, by which the size of a checkpoint is told."""

    width: int
    num_blocks: int

    @override
    def __str__(self) -> str:
        return f"width {self.width} with {self.num_blocks} blocks"
