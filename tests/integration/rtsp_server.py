"""An RTSP camera made of GStreamer, for the system's Python: rtsp_server.py PIPELINE [USER PASSWORD], or --check.

Serves /stream on 127.0.0.1 and prints its port; ends with its standard input.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

ELEMENTS = ("videotestsrc", "x264enc", "rtph264pay", "jpegenc", "rtpjpegpay")


def serve(pipeline: str, login: list[str]) -> None:
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(pipeline)
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service("0")
    if login:
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", "viewer")
        viewer = Gst.Structure.new_empty("viewer")
        viewer.set_value("media.factory.access", True)
        viewer.set_value("media.factory.construct", True)
        factory.add_role_from_structure(viewer)
        auth = GstRtspServer.RTSPAuth.new()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(*login, token)
        server.set_auth(auth)
    server.get_mount_points().add_factory("/stream", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    loop.run()


Gst.init(None)
if sys.argv[1] == "--check":
    sys.exit(not all(Gst.ElementFactory.find(name) for name in ELEMENTS))
serve(sys.argv[1], sys.argv[2:])
