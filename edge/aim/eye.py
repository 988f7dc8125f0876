"""Eye: leased frames in, Views out. It has a decoder and a reader of its own, so that aiming never touches a visit."""

from pathlib import Path

import numpy as np

from edge.aim.view import Measures, View, mosaic, outline, skew_deg
from edge.capture import FrameLease
from edge.frames import FrameDecoder
from edge.reading.reader import PlateReader


class Eye:
    """roi: the part of the frame that is read, as shares (left, top, right, bottom); model_folder: the bundle that the
    lane reads with, None for the shipped one. Not thread-safe."""

    def __init__(self, roi: tuple[float, float, float, float] | None, model_folder: Path | None) -> None:
        self._roi = roi or (0.0, 0.0, 1.0, 1.0)
        self._decoder = FrameDecoder()
        self._reader = PlateReader(model_folder)

    def look(self, lease: FrameLease, *, picture: bool) -> View:
        """Raises CameraFrameError for a frame that can't be decoded. Texts that were read are dropped here."""
        grey = self._decoder.grey(lease)
        try:
            height, width = grey.shape
            left, top, right, bottom = (
                round(share * full) for share, full in zip(self._roi, (width, height, width, height), strict=True)
            )
            reading = self._reader.read_frame(grey[top:bottom, left:right])
            quads = [plate.quad + np.array([left, top], np.float32) for plate in reading.plates]
            quality = reading.plates[0].quality if reading.plates else None
            heights = tuple(p.quality.plate_height_px or 0.0 for p in reading.plates)
            return View(
                measures=Measures(
                    plates=len(reading.plates),
                    plate_height_px=quality.plate_height_px if quality else None,
                    sharpness=quality.sharpness if quality else None,
                    clipped_share=quality.clipped_share if quality else None,
                    skew_deg=skew_deg(quads[0]) if quads else None,
                    brightness=reading.brightness,
                    exposure_us=lease.info.exposure_us,
                    gain=lease.info.gain,
                ),
                plates=tuple(outline(quad, width, height) for quad in quads),
                lane=outline(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), width, height),
                mosaic=mosaic(grey, heights) if picture else None,
            )
        finally:
            self._decoder.wipe()
