"""What happens between the maker's plate and the reader: weather on the plate, light, lens, sensor, codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Optics:
    """How hard `degrade` is on a picture; every figure is an upper bound that is drawn from zero.

    focus_px, motion_px   blur: sigma, and length of the streak, at the picture's own size
    noise                 sigma of the sensor's noise in grey levels
    lowres                smallest share of the picture's height that is left after down-scaling (0.12 is 8 px of 64)
    jpeg                  lowest JPEG quality; 0 leaves the codec out
    light                 spread of exposure and contrast, 0 to 1
    infrared              share of pictures seen in grey under IR, with bloom
    """

    focus_px: float = 1.6
    motion_px: float = 7.0
    noise: float = 16.0
    lowres: float = 0.18
    jpeg: int = 18
    light: float = 1.0
    infrared: float = 0.12


def weather(rng: np.random.Generator, image: Image) -> Image:
    """Wear on the plate itself: fading, dirt, scratches, rust, a tow bar, leaves, shadows; same size and dtype."""
    out = image.astype(np.float32)
    h, w = out.shape[:2]
    if rng.random() < 0.4:
        out += (out.mean(axis=(0, 1)) - out) * np.float32(rng.uniform(0, 0.45))
    if rng.random() < 0.5:
        out *= 1 - rng.uniform(0.1, 0.5) * _clouds(rng, h, w)[..., None]
    if rng.random() < 0.22:
        mud = np.array([rng.uniform(30, 90), rng.uniform(50, 110), rng.uniform(70, 130)], np.float32)
        ground = 0.5 * _clouds(rng, h, w) + 0.3 * _clouds(rng, h, w, detail=40) + 0.2 * _clouds(rng, h, w, detail=120)
        cover = np.clip((ground - rng.uniform(0.5, 0.7)) * rng.uniform(2, 6), 0, rng.uniform(0.2, 0.8))
        out += (mud - out) * cover[..., None].astype(np.float32)
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 8))):
            a, b = rng.uniform([0, 0], [w, h], (2, 2))
            b = a + (b - a) * rng.uniform(0.05, 0.5)
            colour = [float(rng.uniform(60, 230))] * 3
            cv2.line(out, _point(a), _point(b), colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    if rng.random() < 0.35:
        out *= _shadow(rng, h, w)[..., None]
    if rng.random() < 0.03:
        x = int(rng.uniform(0.1, 0.9) * w)
        thick = int(rng.uniform(0.02, 0.06) * w)
        shade = [float(rng.uniform(10, 90))] * 3
        cv2.line(out, (x, h), (x + int(rng.normal(0, 10)), int(h * rng.uniform(0.55, 0.9))), shade, thick)
    return np.clip(out, 0, 255).astype(np.uint8)


def degrade(rng: np.random.Generator, image: Image, optics: Optics | None = None) -> Image:
    """Light, lens, sensor and codec on a BGR picture of any size; returns the same shape and dtype."""
    o = optics or Optics()
    h, w = image.shape[:2]
    out = image.astype(np.float32)
    if rng.random() < 0.8:
        gain = np.exp(rng.normal(0, 0.28 * o.light, 3) * 0.35 + rng.normal(0, 0.35 * o.light))
        out = (
            (out - np.float32(128)) * np.float32(np.exp(rng.normal(-0.12, 0.3 * o.light)))
            + 128
            + np.float32(rng.normal(0, 22 * o.light))
        )
        out *= gain.astype(np.float32)
        mean = max(float(out.mean()), 1.0)
        out *= np.float32(np.clip(mean, 22, 200) / mean)
    if rng.random() < 0.15 * o.light:
        out = np.float32(255) * np.power(np.clip(out / 255, 0, 1), np.float32(np.exp(rng.normal(0, 0.45))))
    if rng.random() < o.infrared:
        out = np.repeat(_infrared(rng, out)[..., None], 3, axis=2)
    elif rng.random() < 0.12:
        grey = out @ np.array([0.114, 0.587, 0.299], np.float32)
        out = np.repeat(grey[..., None], 3, axis=2)
    out = np.clip(out, 0, 255)
    if rng.random() < 0.25:
        out += rng.uniform(0, 70) * _glare(rng, h, w)[..., None]
    if rng.random() < 0.4 and o.motion_px > 1:
        out = _motion(rng, out, o.motion_px)
    if rng.random() < 0.45 and o.focus_px > 0:
        out = cv2.GaussianBlur(out, (0, 0), max(0.3, rng.uniform(0, o.focus_px))).astype(np.float32)
    if rng.random() < 0.5 and o.lowres < 1:
        scale = float(np.exp(rng.uniform(np.log(o.lowres), 0)))
        stretch = float(np.exp(rng.uniform(-0.2, 0.2)))
        small = (max(8, int(w * scale * stretch)), max(4, int(h * scale)))
        down = cv2.resize(out, small, interpolation=_either(rng, cv2.INTER_AREA, cv2.INTER_LINEAR))
        down = _grain(rng, down.astype(np.float32), o.noise * 0.6)
        if o.jpeg and rng.random() < 0.4:
            down = _codec(rng, down, max(o.jpeg, 30))
        out = cv2.resize(down, (w, h), interpolation=_either(rng, cv2.INTER_LINEAR, cv2.INTER_CUBIC)).astype(np.float32)
    if rng.random() < 0.5:
        out = _grain(rng, out, o.noise)
    if o.jpeg and rng.random() < 0.35:
        out = _codec(rng, out, o.jpeg)
    if rng.random() < 0.08:
        blurred = cv2.GaussianBlur(out, (0, 0), 1.5)
        out = out + (out - blurred) * np.float32(rng.uniform(0.5, 2))
    return np.clip(out, 0, 255).astype(np.uint8)


def _either(rng: np.random.Generator, one: int, other: int) -> int:
    return one if rng.random() < 0.5 else other


def _clouds(rng: np.random.Generator, h: int, w: int, detail: int = 8) -> NDArray[np.float32]:
    coarse = rng.random((max(2, int(rng.integers(2, detail))), max(2, int(rng.integers(2, detail))))).astype(np.float32)
    return cast(NDArray[np.float32], cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)).clip(0, 1)


def _shadow(rng: np.random.Generator, h: int, w: int) -> NDArray[np.float32]:
    mask = np.ones((h, w), np.float32)
    edge = rng.uniform([-0.2 * w, -0.2 * h], [1.2 * w, 1.2 * h], (4, 2))
    if rng.random() < 0.5:
        y = rng.uniform(0.1, 0.7, 2) * h
        edge = np.array([[0, 0], [w, 0], [w, y[1]], [0, y[0]]])
    cv2.fillPoly(mask, [np.round(edge).astype(np.int32)], float(rng.uniform(0.3, 0.8)))
    return cast(NDArray[np.float32], cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 6)))


def _glare(rng: np.random.Generator, h: int, w: int) -> NDArray[np.float32]:
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    x, y = rng.uniform(0, w), rng.uniform(0, h)
    sx, sy = rng.uniform(0.1, 0.6) * w, rng.uniform(0.1, 0.8) * h
    bell: NDArray[np.float32] = np.exp(-(((xs - x) / sx) ** 2 + ((ys - y) / sy) ** 2)).astype(np.float32)
    return bell


def _infrared(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    mix = rng.dirichlet([1.0, 2.0, 2.0]).astype(np.float32)
    grey = image @ mix
    if rng.random() < 0.5:
        bright = np.clip(grey - 150, 0, 255)
        grey = grey + rng.uniform(0.3, 1.6) * cv2.GaussianBlur(bright, (0, 0), rng.uniform(1, 6))
    return cast(NDArray[np.float32], grey * np.float32(rng.uniform(0.7, 1.5)))


def _motion(rng: np.random.Generator, image: NDArray[np.float32], longest: float) -> NDArray[np.float32]:
    length = rng.uniform(1, longest)
    angle = rng.normal(0, 0.35) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    size = int(length) // 2 * 2 + 3
    kernel = np.zeros((size, size), np.float32)
    c = size / 2 - 0.5
    d = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    cv2.line(kernel, _point([c - d[0], c - d[1]]), _point([c + d[0], c + d[1]]), 1.0, 1, cv2.LINE_AA)
    return cast(NDArray[np.float32], cv2.filter2D(image, -1, kernel / kernel.sum()))


def _grain(rng: np.random.Generator, image: NDArray[np.float32], most: float) -> NDArray[np.float32]:
    sigma = rng.uniform(0, most)
    return image + rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)


def _codec(rng: np.random.Generator, image: NDArray[np.float32], lowest: int) -> NDArray[np.float32]:
    quality = int(rng.integers(lowest, 95))
    _, data = cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cast(Image, cv2.imdecode(data, cv2.IMREAD_COLOR)).astype(np.float32)


def _point(at: NDArray[np.float64] | list[float]) -> tuple[int, int]:
    return round(float(at[0])), round(float(at[1]))
