"""A camera made of GStreamer's RTSP server; run with the system's Python, outside pytest.

Needs the Debian packages gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{base,good,bad} and
python3-gi. Serves one raw H.264 file, one slice per picture, in a loop at /camera.
"""

import argparse
import itertools
import os
import re
import time
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


# From the beginning of NTP's time, 1900, to that of Unix.
_NTP_TO_UNIX_S = 2_208_988_800


def make_clock(behind_s):
    """Return a clock that tells NTP's time, late by so many seconds."""
    clock = Gst.SystemClock(clock_type=Gst.ClockType.REALTIME)
    now = clock.get_internal_time()
    clock.set_calibration(now, now + (_NTP_TO_UNIX_S - behind_s) * Gst.SECOND, 1, 1)
    return clock


class Camera(GstRtspServer.RTSPMediaFactory):
    """Feeds the same pictures over and over, with times that go on."""

    def __init__(self, pictures, fps, behind_s, *, is_live):
        super().__init__()
        self._is_clock_wrong = behind_s != 0
        if self._is_clock_wrong:
            self.set_clock(make_clock(behind_s))
        self._pictures = pictures
        self._is_live = is_live
        self._fps = fps
        self._step_ns = Gst.SECOND // fps
        self.set_launch(_LAUNCH.format(fps=fps))

    def feed(self, media):
        first = round(time.time() * self._fps) if self._is_live else 0
        numbers = iter(range(2**62))
        source = media.get_element().get_by_name_recurse_up("pictures")
        media.connect("prepared", self._report_soon)
        source.connect("need-data", lambda appsrc, _: self._push(appsrc, next(numbers), first))

    def _report_soon(self, media):
        """Send sender reports often, of the clock that may be wrong instead of the system's."""
        for element in media.get_element().get_parent().children:
            if element.find_property("ntp-time-source") is None:
                continue
            if self._is_clock_wrong:
                element.set_property("ntp-time-source", "clock-time")
            # By default the first comes after up to 5 s. It comes at once when the interval is
            # changed, and pictures that came before it are to be seen too.
            session = element.emit("get-internal-session", 0)
            GLib.timeout_add(500, session.set_property, "rtcp-min-interval", Gst.SECOND // 4)

    def _push(self, appsrc, number, first):
        picture = self._pictures[(first + number) % len(self._pictures)]
        buffer = Gst.Buffer.new_wrapped(picture)
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
    pictures = split_pictures(options.video.read_bytes())
    camera = Camera(pictures, options.fps, options.behind_s, is_live=options.live)
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
    parser.add_argument("--behind-s", type=int, default=0)
    parser.add_argument(
        "--live",
        action="store_true",
        help="Show what there is by now, not the film from its start.",
    )
    parser.add_argument("--probe", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
