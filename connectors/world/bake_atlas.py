"""Bakes an atlas from a Noto Color Emoji font: ``python -m connectors.world.bake_atlas FONT``.

Needs the extra ``lab`` (fontTools); the world itself does not. ``--wide`` bakes the artwork of
the wide world.
"""

import argparse
import io
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from fontTools.ttLib import TTFont
from PIL import Image

from connectors.world.atlas import ATLAS_PATH, CELL_PX, COLUMNS
from connectors.world.concepts import SPRITES
from connectors.world.wide.artwork import WIDE_ATLAS_PATH, WIDE_COLUMNS
from connectors.world.wide.catalogue import WIDE_CONCEPTS


def bake(font_path: Path, codepoints: Collection[int], *, columns: int, out_path: Path) -> None:
    """Cut each sprite out of the font's colour bitmaps and lay them out as a grid of cells.

    Args:
        font_path: A NotoColorEmoji.ttf with CBDT bitmaps (the Debian package
            ``fonts-noto-color-emoji`` has one; files with COLR outlines only will not do).
        codepoints: The emoji, cell by cell.
        columns: Cells in a row.
        out_path: Where the RGBA picture goes; lossless, as PNG or WebP.

    Raises:
        KeyError: If the font lacks one of the emoji or has no CBDT table.
    """
    font = cast("Any", TTFont(font_path))
    strike, glyphs = font["CBDT"].strikeData[0], font.getBestCmap()
    rows = -(-len(codepoints) // columns)
    atlas = Image.new("RGBA", (columns * CELL_PX, rows * CELL_PX))
    for cell, codepoint in enumerate(codepoints):
        picture = Image.open(io.BytesIO(strike[glyphs[codepoint]].imageData)).convert("RGBA")
        picture = picture.crop(picture.getbbox())
        picture.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        atlas.paste(picture, (cell % columns * CELL_PX, cell // columns * CELL_PX))
    atlas.save(out_path, optimize=True, lossless=True, quality=100, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Bake a world's sprite atlas.")
    parser.add_argument("font", type=Path, help="path of NotoColorEmoji.ttf (CBDT)")
    parser.add_argument("--wide", action="store_true", help="the wide world's atlas")
    arguments = parser.parse_args()
    if arguments.wide:
        wide = [concept.codepoint for concept in WIDE_CONCEPTS]
        bake(arguments.font, wide, columns=WIDE_COLUMNS, out_path=WIDE_ATLAS_PATH)
    else:
        bake(arguments.font, SPRITES.values(), columns=COLUMNS, out_path=ATLAS_PATH)
