"""JPEGs of the newest frames, drawn where somebody asks and once for all who do."""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from connectors.annotate.draw import Style, draw
from connectors.pictures.encoding import encode_image
from pipeline.api.answers import RefusedError
from pipeline.records.translate import to_overlays
from pipeline.streams.result import Scene

_MAX_KEPT = 64  # JPEGs of 200 kB at 1080p: 13 MB
_MAX_WAITING = 16
_QUALITY = 85
# In the frame's own size: who looks may zoom.
_STYLE = Style(min_width=1)


class PictureDesk:
    """Draws on one thread, so that no number of viewers takes more than one core from the engine.

    Used by one event loop. A picture is drawn once for all who ask for it at the same time.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="maskstream-api-picture")
        self._kept: OrderedDict[tuple[str, bool], tuple[str, asyncio.Future[bytes]]] = OrderedDict()
        self._num_waiting = 0

    async def draw(self, scene: Scene, *, with_masks: bool) -> bytes:
        """Return the JPEG of a frame.

        Raises:
            RefusedError: If too many wait to be drawn.
        """
        tag, key = tag_of(scene), (scene.frame.stream_id, with_masks)
        kept_tag, drawing = self._kept.get(key, (None, None))
        if drawing is None or kept_tag != tag:
            drawing = self._begin(scene, with_masks=with_masks)
            self._kept[key] = (tag, drawing)
            self._kept.move_to_end(key)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        # Others may wait for it when this client has gone.
        return await asyncio.shield(drawing)

    def close(self) -> None:
        """Draw nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self, scene: Scene, *, with_masks: bool) -> asyncio.Future[bytes]:
        if self._num_waiting >= _MAX_WAITING:
            raise RefusedError(
                503, "too many pictures are being drawn", headers={"Retry-After": "1"}
            )
        self._num_waiting += 1
        loop = asyncio.get_running_loop()
        drawing = loop.run_in_executor(self._executor, _to_jpeg, scene, with_masks)
        drawing.add_done_callback(self._note_done)
        return drawing

    def _note_done(self, _drawing: asyncio.Future[bytes]) -> None:
        self._num_waiting -= 1


def tag_of(scene: Scene) -> str:
    """Return what names a frame among those of its stream."""
    frame = scene.frame
    return f"{frame.stream_epoch}-{frame.frame_seq}-{frame.pts_us}"


def _to_jpeg(scene: Scene, with_masks: bool) -> bytes:  # noqa: FBT001 - for the executor
    pixels = scene.frame.pixels
    if with_masks:
        pixels = draw(pixels, to_overlays(scene.tracks), scene.captions, _STYLE)
    return encode_image(pixels, "jpeg", quality=_QUALITY)
