"""Concept queries, checked and packed for the detector.

Shape legend:
    B queries, P points and K boxes of the one that has most.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.common.boxes import xyxy_to_cxcywh
from models.common.checks import check_bool, check_sequence, check_text
from models.common.prompting import check_array
from models.protocols import ConceptQuery, ExemplarBox, ExemplarPoint
from models.sam3.network.exemplars import Exemplars, PointExemplars
from models.sam3.phrases import VISUAL_PHRASE

Exemplar = ExemplarBox | ExemplarPoint
# Each exemplar is a token that all others attend to.
MAX_EXEMPLARS = 1024


def read_query(query: object, *, takes_points: bool) -> ConceptQuery:
    """Return the query with its exemplars checked and clipped; a string is a phrase.

    Raises:
        ValueError: If it says nothing, or as for :func:`check_exemplars`.
    """
    if isinstance(query, str):
        query = ConceptQuery(phrase=query)
    if not isinstance(query, ConceptQuery):
        raise ValueError(  # noqa: TRY004 - one type of error for whatever a caller got wrong
            f"query {query!r} is a {type(query).__name__}; accepted: a phrase or a ConceptQuery"
        )
    if query.phrase is not None:
        check_text("phrase", query.phrase)
    elif not query.exemplars:
        raise ValueError(f"{query!r} says nothing; accepted: a phrase, exemplars, or both")
    return replace(query, exemplars=check_exemplars(query.exemplars, takes_points=takes_points))


def read_queries(queries: object, *, takes_points: bool) -> list[ConceptQuery]:
    """Return a sequence of queries as :func:`read_query` does.

    Raises:
        ValueError: If it is no sequence, or a lone string, or as for :func:`read_query`.
    """
    given = check_sequence("queries", queries, of="phrases and queries")
    return [read_query(query, takes_points=takes_points) for query in given]


def phrase_of(query: ConceptQuery) -> str:
    """Return the phrase that SAM 3 reads for a query."""
    return VISUAL_PHRASE if query.phrase is None else query.phrase


def check_exemplars(exemplars: Sequence[Exemplar], *, takes_points: bool) -> tuple[Exemplar, ...]:
    """Return exemplars with boxes clipped to the picture.

    Args:
        exemplars: Boxes and points.
        takes_points: Whether the model has weights for points.

    Raises:
        ValueError: If a box is empty or outside, a point outside or more than the model takes, or
            there are too many.
    """
    check_sequence("exemplars", exemplars, of="boxes and points")
    if len(exemplars) > MAX_EXEMPLARS:
        raise ValueError(f"{len(exemplars)} exemplars; accepted: at most {MAX_EXEMPLARS} a concept")
    checked = tuple(_checked(exemplar) for exemplar in exemplars)
    if not takes_points and any(isinstance(exemplar, ExemplarPoint) for exemplar in checked):
        raise ValueError(
            "exemplars hold points; accepted by this model: boxes (only checkpoints in the "
            "official layout have the weights for points)"
        )
    return checked


def _checked(exemplar: object) -> Exemplar:
    if isinstance(exemplar, Exemplar):
        check_bool("is_positive", exemplar.is_positive)
    if isinstance(exemplar, ExemplarPoint):
        x, y = check_array("point_xy", exemplar.point_xy, (2,)).tolist()
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise ValueError(
                f"point_xy {exemplar.point_xy!r} is outside the picture; "
                "accepted: shares of its width and height, 0 to 1"
            )
        return exemplar
    if not isinstance(exemplar, ExemplarBox):
        raise ValueError(  # noqa: TRY004 - as above
            f"exemplar {exemplar!r} is a {type(exemplar).__name__}; "
            "accepted: an ExemplarBox or an ExemplarPoint"
        )
    x0, y0, x1, y1 = check_array("box_xyxy", exemplar.box_xyxy, (4,)).clip(0, 1).tolist()
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"box_xyxy {exemplar.box_xyxy!r} covers nothing of the picture; accepted: "
            "x0 < x1 and y0 < y1 as shares of its width and height, partly within 0 to 1"
        )
    return replace(exemplar, box_xyxy=(x0, y0, x1, y1))


def pack_exemplars(rows: Sequence[Sequence[Exemplar]], device: torch.device) -> Exemplars | None:
    """Pad the checked exemplars of B queries to one length; ``None`` if there are none at all."""
    boxes = [[e for e in row if isinstance(e, ExemplarBox)] for row in rows]
    points = [[e for e in row if isinstance(e, ExemplarPoint)] for row in rows]
    has_points = any(points)
    if not has_points and not any(boxes):
        return None
    corners, is_positive, is_valid = _pad(
        [[(e.box_xyxy, e.is_positive) for e in row] for row in boxes], 4, device
    )
    if not has_points:
        packed = None
    else:
        xy, is_on, is_real = _pad(
            [[(e.point_xy, e.is_positive) for e in row] for row in points], 2, device
        )
        packed = PointExemplars(xy=xy, is_positive=is_on, is_valid=is_real)
    return Exemplars(
        boxes_cxcywh=xyxy_to_cxcywh(corners),
        is_positive=is_positive,
        is_valid=is_valid,
        points=packed,
    )


def _pad(
    rows: Sequence[Sequence[tuple[tuple[float, ...], bool]]], width: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return values (B, K, width), labels (B, K) and validity (B, K)."""
    most = max(len(row) for row in rows)
    nothing = ((0.0,) * width, False)
    full = [[*row, *[nothing] * (most - len(row))] for row in rows]
    values = torch.tensor([[value for value, _ in row] for row in full], device=device)
    labels = torch.tensor([[label for _, label in row] for row in full], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    is_valid = torch.arange(most, device=device) < lengths[:, None]
    return values.view(len(rows), most, width), labels.to(torch.bool), is_valid
