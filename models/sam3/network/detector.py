"""The SAM 3 detector: pictures and concepts in, scored boxes and masks out (section 3).

Shape legend:
    N images, B (image, concept) pairs, L layers, Q queries, D channels, G tokens along a side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from models.common.elementwise import elementwise
from models.common.positional import sine_grid
from models.sam2.tracker import rows_of
from models.sam3.network.config import Sam3Config
from models.sam3.network.decoder import Decoder, DotProductScoring
from models.sam3.network.exemplars import ExemplarEncoder, Exemplars
from models.sam3.network.fusion import FusionEncoder
from models.sam3.network.segmentation import MaskHead
from models.sam3.network.text import TextEncoder, TextFeatures, valid_tokens
from models.sam3.network.vision import VisionEncoder, VisionFeatures


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorOutput:
    """Everything the detector says about B (image, concept) pairs; the last layer's word is final.

    Attributes:
        logits: Query score logits, shape (L, B, Q).
        boxes_cxcywh: Shape (L, B, Q, 4), normalised.
        presence_logits: Whether the concept is on the picture at all, shape (L, B).
        queries: Shape (L, B, Q, D).
        pixel_embedding: Shape (B, D, 4G, 4G).
        semantic_logits: Dense heat map of the concept, shape (B, 4G, 4G).
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    presence_logits: Tensor
    queries: Tensor
    pixel_embedding: Tensor
    semantic_logits: Tensor

    def joint_scores(self) -> Tensor:
        """Probability of each query of the last layer: query score times presence, shape (B, Q)."""
        scores = elementwise(torch.sigmoid, self.logits[-1])
        return scores * self.presence()[:, None]

    def presence(self) -> Tensor:
        """Probability that each concept is on its picture at all, by the last layer, shape (B,)."""
        return elementwise(torch.sigmoid, self.presence_logits[-1])


class Detector(nn.Module):
    """SAM 3's concept detector."""

    def __init__(self, config: Sam3Config) -> None:
        super().__init__()
        self.config = config
        self.vision_encoder = VisionEncoder(config.vision)
        self.text_encoder = TextEncoder(config.text)
        self.text_projection = nn.Linear(config.text.dim, config.detector.dim)
        self.geometry_encoder = ExemplarEncoder(config.detector)
        self.detr_encoder = FusionEncoder(config.detector)
        self.detr_decoder = Decoder(config.detector)
        self.mask_decoder = MaskHead(config.detector)
        self.dot_product_scoring = DotProductScoring(config.detector)

    def encode_text(self, token_ids: Tensor) -> TextFeatures:
        """Encode phrases (P, T). Constant for a phrase, so callers keep the result."""
        is_valid = valid_tokens(token_ids)
        used = total = token_ids.shape[1]
        if not torch.compiler.is_compiling():
            # Tokens see only what is before them: the padding behind all phrases can be left out.
            used = int(is_valid.any(0).nonzero().amax()) + 1 if bool(is_valid.any()) else 1
        tokens = self.text_projection(self.text_encoder(token_ids[:, :used]))
        return TextFeatures(tokens=F.pad(tokens, (0, 0, 0, total - used)), is_valid=is_valid)

    @override
    def forward(
        self,
        vision: VisionFeatures,
        image_index: Tensor,
        text: TextFeatures,
        exemplars: Exemplars | None = None,
    ) -> DetectorOutput:
        """Look for one concept on one image, B times.

        Args:
            vision: Features of N images.
            image_index: Which image each pair looks at, shape (B,), int64.
            text: Features of B phrases.
            exemplars: Boxes of each pair, or none.
        """
        top = vision.detector_pyramid[-1]
        rows, columns = top.shape[-2:]
        place = sine_grid(rows, columns, top.shape[1], top.device).to(top.dtype)
        image, image_pos = top.flatten(2).transpose(1, 2), place.flatten(1).t()[None]
        pyramid = tuple(rows_of(level, image_index) for level in vision.detector_pyramid)
        prompt, is_valid = self._prompt(top, place, text, exemplars, image_index)
        fused = self.detr_encoder(image, image_pos, prompt, is_valid, image_index)
        decoded = self.detr_decoder(fused, image_pos, prompt, is_valid, grid=(rows, columns))
        pixels = self.mask_decoder(fused, pyramid, prompt, is_valid)
        return DetectorOutput(
            logits=self.dot_product_scoring(decoded.queries, prompt, is_valid),
            boxes_cxcywh=decoded.boxes_cxcywh,
            presence_logits=decoded.presence_logits,
            queries=decoded.queries,
            pixel_embedding=pixels.embedding,
            semantic_logits=pixels.semantic_logits,
        )

    def masks(self, output: DetectorOutput, queries: Tensor | None = None) -> Tensor:
        """Mask logits (B, Q, 4G, 4G) of the last layer's queries, or of the (B, K, D) given."""
        return self.mask_decoder.masks(
            output.queries[-1] if queries is None else queries, output.pixel_embedding
        )

    def _prompt(
        self,
        coarse: Tensor,
        place: Tensor,
        text: TextFeatures,
        exemplars: Exemplars | None,
        image_index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Join the phrase's tokens with those of the exemplars, or with the picture token alone."""
        if exemplars is None:
            # That token is the same for all prompts of a picture.
            nothing = Exemplars.none(coarse.shape[0], coarse.device)
            encoded = self.geometry_encoder(nothing, coarse, place)
            tokens, is_valid = (rows_of(x, image_index) for x in encoded)
        else:
            tokens, is_valid = self.geometry_encoder(exemplars, rows_of(coarse, image_index), place)
        return torch.cat((text.tokens, tokens), dim=1), torch.cat((text.is_valid, is_valid), dim=1)
