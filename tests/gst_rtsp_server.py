"""A camera made of GStreamer's RTSP server; run with the system's Python, outside pytest.

Needs the Debian packages gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{base,good,bad} and
python3-gi. Serves one raw H.264 file, one slice per picture, in a loop at /camera.
"""

import argparse
import itertools
import os
import re
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

_LAUNCH = (
    "( appsrc name=pictures format=time is-live=true "
    "caps=video/x-h264,stream-format=byte-stream,alignment=au,framerate={fps}/1 "
    "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)


class Camera(GstRtspServer.RTSPMediaFactory):
    """Feeds the same pictures over and over, with times that go on."""

    def __init__(self, pictures, fps):
        super().__init__()
        self._pictures = pictures
        self._step_ns = Gst.SECOND // fps
        self.set_launch(_LAUNCH.format(fps=fps))

    def feed(self, media):
        numbers = iter(range(2**62))
        source = media.get_element().get_by_name_recurse_up("pictures")
        source.connect("need-data", lambda appsrc, _: self._push(appsrc, next(numbers)))

    def _push(self, appsrc, number):
        buffer = Gst.Buffer.new_wrapped(self._pictures[number % len(self._pictures)])
        buffer.pts = buffer.dts = number * self._step_ns
        buffer.duration = self._step_ns
        appsrc.emit("push-buffer", buffer)


def main():
    options = parse()
    Gst.init(None)
    for element in ("appsrc", "h264parse", "rtph264pay"):
        if Gst.ElementFactory.find(element) is None:
            raise SystemExit(f"GStreamer has no element {element}")
    if options.probe:
        return
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(options.port))
    camera = Camera(split_pictures(options.video.read_bytes()), options.fps)
    camera.connect("media-configure", lambda factory, media: factory.feed(media))
    user = os.environ.get("MASKSTREAM_TEST_USER")
    if user:
        protect(server, camera, user, os.environ["MASKSTREAM_TEST_PASSWORD"])
    server.get_mount_points().add_factory("/camera", camera)
    server.attach(None)
    GLib.MainLoop().run()


def split_pictures(stream):
    """Return the access units of an Annex B stream: each ends with its one coded slice."""
    starts = [match.start() for match in re.finditer(rb"\x00?\x00\x00\x01", stream)]
    units, unit = [], b""
    for start, end in itertools.pairwise([*starts, len(stream)]):
        nal = stream[start:end]
        unit += nal
        if nal.lstrip(b"\x00")[1] & 0x1F in (1, 5):
            units.append(unit)
            unit = b""
    return units


def protect(server, camera, user, password):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    role = "viewer,media.factory.access=true,media.factory.construct=true"
    camera.add_role_from_structure(Gst.Structure.new_from_string(role))
    server.set_auth(auth)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--video", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--probe", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
