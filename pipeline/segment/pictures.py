"""One picture after another through a finder: what ``maskstream segment`` and Python share."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.errors import PictureError
from connectors.pictures.stills import PICTURE_SUFFIXES, list_pictures, read_picture
from models.protocols import DeviceLostError
from pipeline.errors import MaskstreamError
from pipeline.segment.finders import Finder
from pipeline.segment.results import PictureResult

Picture = Path | NDArray[np.uint8]


def list_all(given: Iterable[Picture]) -> tuple[list[Picture], list[PictureResult]]:
    """Return every picture once, in the order given, and a failure for each path without any.

    Args:
        given: Files, folders of pictures, or patterns; pixels are taken as they are.
    """
    pictures: list[Picture] = []
    seen: set[Path] = set()
    failures: list[PictureResult] = []
    for one in given:
        if not isinstance(one, Path):
            pictures.append(one)
            continue
        found = list_pictures(one)
        if not found:
            accepted = f"a picture, a folder or a pattern of {', '.join(sorted(PICTURE_SUFFIXES))}"
            reason = f"no picture at {str(one)!r} (accepted: {accepted})"
            failures.append(PictureResult(path=one, error=reason))
        pictures += [file for file in found if file not in seen]
        seen.update(found)
    return pictures, failures


def segment_each(pictures: Iterable[Picture], finder: Finder) -> Iterator[PictureResult]:
    """Yield an answer per picture; one that cannot be read or answered says why, others go on."""
    for picture in pictures:
        began_s = time.monotonic()
        path = picture if isinstance(picture, Path) else None
        try:
            pixels = read_picture(picture) if isinstance(picture, Path) else _checked(picture)
            findings = finder.find(pixels)
        except DeviceLostError:
            raise
        except PictureError as error:
            yield PictureResult(path=path, error=str(error))
        # A ValueError is about the prompts on this picture; torch says with a RuntimeError that
        # the memory does not suffice for it. The next picture may be well.
        except (ValueError, MaskstreamError, RuntimeError, MemoryError) as error:
            name = "picture" if path is None else f"picture {str(path)!r}"
            yield PictureResult(path=path, error=f"{name}: {error}")
        else:
            wall_s = time.monotonic() - began_s
            yield PictureResult(path=path, pixels=pixels, findings=findings, wall_s=wall_s)


def _checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        given = f"shape {pixels.shape}, {pixels.dtype}"
        raise ValueError(f"{given} (accepted: RGB of shape (H, W, 3), uint8; H and W above 0)")
    return pixels
