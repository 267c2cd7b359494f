"""Pictures are drawn once for all who ask, and no more wait than may."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from pipeline.api import pictures as module
from pipeline.api.answers import RefusedError
from pipeline.api.pictures import PictureDesk
from tests.pipeline.api.backends import make_scene


@contextmanager
def held_desk():
    """A desk whose thread draws nothing until the event is set."""
    desk, go_on = PictureDesk(), threading.Event()
    desk._executor.submit(go_on.wait, 30)
    try:
        yield desk, go_on
    finally:
        go_on.set()
        desk.close()


def test_a_picture_is_drawn_once_for_all_who_ask():
    async def ask(desk, go_on):
        scene = make_scene()
        asking = [asyncio.ensure_future(desk.draw(scene, with_masks=True)) for _ in range(50)]
        await asyncio.sleep(0)
        num_waiting = desk._num_waiting
        go_on.set()
        jpegs = await asyncio.gather(*asking)
        jpegs.append(await desk.draw(scene, with_masks=True))
        return num_waiting, {id(jpeg) for jpeg in jpegs}, desk._num_waiting

    with held_desk() as (desk, go_on):
        num_waiting, pictures, num_left = asyncio.run(ask(desk, go_on))
    assert (num_waiting, len(pictures), num_left) == (1, 1, 0)


def test_a_client_that_leaves_takes_the_picture_from_nobody():
    async def ask(desk, go_on):
        scene = make_scene()
        first, second = (
            asyncio.ensure_future(desk.draw(scene, with_masks=False)) for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        return await second

    with held_desk() as (desk, go_on):
        assert asyncio.run(ask(desk, go_on)).startswith(b"\xff\xd8")


def test_a_newer_frame_and_one_with_masks_are_pictures_of_their_own():
    async def ask(desk):
        scenes = [(make_scene(7), False), (make_scene(7), True), (make_scene(8), False)]
        return [await desk.draw(scene, with_masks=masks) for scene, masks in scenes]

    desk = PictureDesk()
    plain, drawn, newer = asyncio.run(ask(desk))
    desk.close()
    assert plain != drawn
    assert newer is not plain
    assert len(desk._kept) == 2


def test_too_many_that_wait_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING", 3)

    async def ask(desk, go_on):
        scenes = [make_scene(stream_id=str(number)) for number in range(4)]
        asking = [asyncio.ensure_future(desk.draw(one, with_masks=False)) for one in scenes]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as caught:
            await asking.pop()
        go_on.set()
        return caught.value, await asyncio.gather(*asking)

    with held_desk() as (desk, go_on):
        refused, jpegs = asyncio.run(ask(desk, go_on))
    assert (refused.status, refused.headers) == (503, {"Retry-After": "1"})
    assert len(jpegs) == 3


def test_pictures_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MAX_KEPT", 5)

    async def ask(desk):
        for number in range(20):
            await desk.draw(make_scene(stream_id=str(number)), with_masks=False)

    desk = PictureDesk()
    asyncio.run(ask(desk))
    desk.close()
    assert [name for name, _ in desk._kept] == ["15", "16", "17", "18", "19"]
