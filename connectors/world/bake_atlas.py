"""Bakes ``atlas.png`` from a Noto Color Emoji font: ``python -m connectors.world.bake_atlas FONT``.

Needs the ``atlas`` extra (fontTools, Pillow); the world itself needs neither.
"""

import argparse
import io
from pathlib import Path
from typing import Any, cast

from fontTools.ttLib import TTFont
from PIL import Image

from connectors.world.atlas import ATLAS_PATH, CELL_PX, COLUMNS
from connectors.world.concepts import SPRITES


def bake(font_path: Path, *, out_path: Path = ATLAS_PATH) -> None:
    """Cut each sprite out of the font's colour bitmaps and lay them out as a grid of cells.

    Args:
        font_path: A NotoColorEmoji.ttf with CBDT bitmaps (the Debian package
            ``fonts-noto-color-emoji`` has one; files with COLR outlines only will not do).
        out_path: Where the RGBA PNG goes.

    Raises:
        KeyError: If the font lacks one of the emoji or has no CBDT table.
    """
    font = cast("Any", TTFont(font_path))
    strike, glyphs = font["CBDT"].strikeData[0], font.getBestCmap()
    rows = -(-len(SPRITES) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * CELL_PX, rows * CELL_PX))
    for cell, codepoint in enumerate(SPRITES.values()):
        picture = Image.open(io.BytesIO(strike[glyphs[codepoint]].imageData)).convert("RGBA")
        picture = picture.crop(picture.getbbox())
        picture.thumbnail((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        atlas.paste(picture, (cell % COLUMNS * CELL_PX, cell // COLUMNS * CELL_PX))
    atlas.save(out_path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Bake the world's sprite atlas.")
    parser.add_argument("font", type=Path, help="path of NotoColorEmoji.ttf (CBDT)")
    bake(parser.parse_args().font)
