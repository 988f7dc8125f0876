"""A vehicle's front and flank as flat faces: bumper, grille, lamps, bonnet, screen, roof, and the plate in its holder.

Windows are dark glass: nobody is ever drawn inside. Coordinates are the vehicle's own: y = 0 at the front bumper,
growing towards the rear; x = 0 in its middle; z = 0 on the ground.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hw_sim.view import Face, Image, Texture
from models.train.render import RenderedPlate, render_plate

PX_PER_M = 300
PLATE_PX_PER_M = 1000
HOLDER_M = 0.012
CLEARANCE_M = 0.19
TYRE_M = 0.21
AXLE_M = 0.82

Bgr = tuple[float, float, float]
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Body:
    """The outline of a kind of vehicle, metres. `bonnet_z`: at the nose and at the screen."""

    name: str
    width: float
    height: float
    length: float
    bonnet_z: tuple[float, float]
    bonnet: float
    screen: float
    plate_z: float


BODIES = (
    Body("hatchback", 1.74, 1.46, 4.05, (0.76, 0.98), 0.95, 0.75, 0.46),
    Body("saloon", 1.82, 1.44, 4.70, (0.74, 0.96), 1.15, 0.85, 0.44),
    Body("estate", 1.84, 1.48, 4.75, (0.76, 0.98), 1.10, 0.80, 0.48),
    Body("suv", 1.90, 1.70, 4.60, (0.94, 1.14), 1.05, 0.65, 0.62),
    Body("van", 1.98, 1.95, 4.95, (0.96, 1.20), 0.65, 0.75, 0.58),
)
PAINTS: tuple[Bgr, ...] = (
    (232, 232, 230), (176, 174, 172), (112, 110, 108), (58, 56, 55), (34, 33, 33), (122, 74, 40), (52, 40, 148),
    (70, 92, 62), (86, 116, 140), (60, 52, 104), (150, 120, 84),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Vehicle:
    """What drives through the lane. `faces` are in the order of painting.

    `front`: those that stand upright at the front bumper, the plate in its holder last. `lamps`: (x, z) of the
    headlamps. `glare`: how strongly their light reaches an infrared camera, 0-1.
    """

    body: Body
    truth: RenderedPlate
    faces: tuple[Face, ...]
    front: tuple[Face, Face]
    lamps: tuple[tuple[float, float], ...]
    glare: float

    @property
    def plate(self) -> Face:
        return self.front[-1]

    @property
    def plate_corners(self) -> NDArray[np.float64]:
        """(4, 2) the plate's corners on its face, without the holder's edge, m; clockwise from the top left."""
        w, h = self.plate.size_m()
        return np.array([[0, 0], [w, 0], [w, h], [0, h]]) + HOLDER_M * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])


def plain_plate(rng: np.random.Generator, style: str | None = None) -> RenderedPlate:
    """A plate whose text can be told by looking at it: many typefaces draw O and Q as 0, and I as 1, which is why most
    issuers leave these letters out of their serials. What a vanity plate with one of them says is known to nobody."""
    while set("OIQ") & set((plate := render_plate(rng, style)).text):
        pass
    return plate


def build(rng: np.random.Generator, plate: RenderedPlate, *, night: bool) -> Vehicle:
    """A vehicle of any kind and colour that carries `plate`; the same generator state builds the same vehicle."""
    body = BODIES[rng.integers(len(BODIES))]
    paint = PAINTS[rng.integers(len(PAINTS))]
    half = body.width / 2
    nose, cowl = body.bonnet_z
    back, roof = body.bonnet + body.screen, body.height
    plate_h = plate.image.shape[0] / PLATE_PX_PER_M
    plate_z = max(body.plate_z, 0.26 + plate_h / 2)
    lamp_z = nose - float(rng.uniform(0.10, 0.16))
    lamp_x = half - float(rng.uniform(0.20, 0.26))
    front = _front(rng, body, paint, lamp_x, lamp_z, plate_z, plate_h)
    faces = [
        _face(_tyres(body), (-half, AXLE_M - 0.3, 0.3), (1, 0, 0), (0, 0, -1)),
        _face(_side(rng, body, paint), (half, 0.0, roof), (0, 1, 0), (0, 0, -1)),
        _sloped(_roof(body, paint), half, (body.length - 0.5, roof - 0.02), (back, roof)),
        _sloped(_screen(rng, body, paint), half, (back, roof), (body.bonnet, cowl)),
        _sloped(_bonnet(rng, body, paint), half, (body.bonnet, cowl), (0.0, nose)),
        _face(front, (-half, 0.0, nose), (1, 0, 0), (0, 0, -1)),
    ]
    hung = _plate(plate, float(rng.normal(0, 0.02)), plate_z, float(rng.uniform(-6, 8)), float(rng.normal(0, 0.6)))
    if night:
        faces = [Face(face.texture.grey(), face.origin, face.across, face.down) for face in faces]
        hung = Face(hung.texture.grey(), hung.origin, hung.across, hung.down)
    glare = float(rng.choice((0.15, 0.5, 1.0), p=(0.5, 0.3, 0.2)))  # LED lamps emit little infrared, halogen a lot
    return Vehicle(body, plate, (*faces, hung), (faces[-1], hung), ((-lamp_x, lamp_z), (lamp_x, lamp_z)), glare)


def shadow() -> Image:
    """How much light is left beneath a vehicle (255: all), (64, 128): to be stretched over its footprint."""
    under = np.zeros((64, 128), np.float32)
    under[14:50, 14:114] = 1
    return np.asarray(255 * (1 - 0.8 * cv2.GaussianBlur(under, (0, 0), 6)), np.uint8)


def _face(
    image_and_mask: tuple[Image, Image | None],
    origin: tuple[float, float, float],
    across: tuple[float, float, float],
    down: tuple[float, float, float],
) -> Face:
    return Face(Texture.of(*image_and_mask, PX_PER_M), origin, across, down)


def _sloped(
    image_and_mask: tuple[Image, Image | None], half: float, far: tuple[float, float], near: tuple[float, float]
) -> Face:
    """A face as wide as the vehicle, from (y, z) of its far edge to that of its near one."""
    dy, dz = near[0] - far[0], near[1] - far[1]
    run = float(np.hypot(dy, dz))
    return _face(image_and_mask, (-half, far[0], far[1]), (1, 0, 0), (0, dy / run, dz / run))


def _plate(plate: RenderedPlate, x: float, z: float, tilt_deg: float, roll_deg: float) -> Face:
    """The plate on its dark holder, a little off the middle, tilted back by `tilt_deg` and turned by `roll_deg`."""
    edge = round(HOLDER_M * PLATE_PX_PER_M)
    image = cv2.copyMakeBorder(plate.image, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(26, 25, 25))
    alpha = cv2.copyMakeBorder(plate.alpha, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    shape = alpha[..., None].astype(np.float32) / 255
    mounted = np.asarray(image * shape + np.array((26, 25, 25), np.float32) * (1 - shape), np.uint8)
    h, w = (side / PLATE_PX_PER_M for side in mounted.shape[:2])
    tilt, roll = np.deg2rad(tilt_deg), np.deg2rad(roll_deg)
    across = np.array([np.cos(roll), 0.0, -np.sin(roll)])
    down = np.array([-np.sin(roll) * np.cos(tilt), -np.sin(tilt), -np.cos(roll) * np.cos(tilt)])
    origin = np.array([x, -0.03, z]) - across * w / 2 - down * h / 2
    texture = Texture.of(mounted, None, PLATE_PX_PER_M, step=2**0.5, glow=True)
    return Face(texture, _triple(origin), _triple(across), _triple(down))


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(vector[0]), float(vector[1]), float(vector[2])


# --- painting: every sheet is (h, w, 3) uint8 at PX_PER_M, seen from outside ------------------------------------------


def _sheet(width: float, height: float, top: Bgr, bottom: Bgr) -> Image:
    """A panel with a vertical run of light."""
    w, h = round(width * PX_PER_M), max(round(height * PX_PER_M), 4)
    run = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    panel = np.array(top, np.float32) * (1 - run) + np.array(bottom, np.float32) * run
    return np.ascontiguousarray(np.broadcast_to(np.clip(panel, 0, 255), (h, w, 3)).astype(np.uint8))


def _lit(paint: Bgr, by: float) -> Bgr:
    """A paint in more or less light, with a little of the sky's reflection when bright."""
    shine = max(0.0, by - 1) * 60
    return paint[0] * by + shine, paint[1] * by + shine * 0.95, paint[2] * by + shine * 0.9


def _fill(image: Image, points: Points, colour: Bgr) -> None:
    """A polygon in metres on the sheet."""
    pixels = np.round(np.array(points) * PX_PER_M * 16).astype(np.int32)
    cv2.fillPoly(image, [pixels], colour, cv2.LINE_AA, shift=4)


def _stroke(image: Image, points: Points, colour: Bgr, width_m: float) -> None:
    pixels = np.round(np.array(points) * PX_PER_M * 16).astype(np.int32)
    cv2.polylines(image, [pixels], False, colour, max(1, round(width_m * PX_PER_M)), cv2.LINE_AA, shift=4)


def _mirrored(points: Points, width: float) -> Points:
    return [(width - x, y) for x, y in points]


def _front(
    rng: np.random.Generator, body: Body, paint: Bgr, lamp_x: float, lamp_z: float, plate_z: float, plate_h: float
) -> tuple[Image, Image]:
    w, nose = body.width, body.bonnet_z[0]
    image = _sheet(w, nose, _lit(paint, 0.96), _lit(paint, 0.62))
    dark, trim = (22.0, 21.0, 20.0), (150.0, 150.0, 152.0)
    top = nose - lamp_z - 0.075
    grille_half = float(rng.uniform(0.36, 0.5))
    grille_low = max(top + 0.12, nose - plate_z - plate_h / 2 - 0.03)
    grille = [(w / 2 - grille_half, top), (w / 2 + grille_half, top), (w / 2 + grille_half * 0.86, grille_low),
              (w / 2 - grille_half * 0.86, grille_low)]  # fmt: skip
    _fill(image, grille, dark)
    if rng.random() < 0.6:
        for bar in np.arange(top + 0.03, grille_low - 0.01, 0.035):
            _stroke(image, [(w / 2 - grille_half * 0.9, bar), (w / 2 + grille_half * 0.9, bar)], (70, 70, 70), 0.008)
        _stroke(image, [*grille, grille[0]], trim, 0.012)
    else:
        for bar in np.arange(w / 2 - grille_half * 0.84, w / 2 + grille_half * 0.84, 0.03):
            _stroke(image, [(float(bar), top + 0.015), (float(bar), grille_low - 0.015)], (48, 48, 48), 0.006)
    badge = (round(w / 2 * PX_PER_M), round((top + grille_low) / 2 * PX_PER_M))
    if grille_low - top > 0.1:
        cv2.circle(image, badge, round(0.045 * PX_PER_M), trim, -1, cv2.LINE_AA)
        cv2.circle(image, badge, round(0.030 * PX_PER_M), (96, 94, 92), -1, cv2.LINE_AA)
    for flip in (False, True):
        outer, inner = w / 2 - lamp_x - 0.13, w / 2 - grille_half - 0.03
        lamp = [
            (max(outer, 0.02), top - 0.03),
            (inner, top + 0.03),
            (inner - 0.03, top + 0.13),
            (max(outer, 0.02), top + 0.12),
        ]
        _fill(image, _mirrored(lamp, w) if flip else lamp, (66, 64, 62))
        middle = lamp_x + w / 2 if flip else w / 2 - lamp_x
        at = (round(middle * PX_PER_M), round((nose - lamp_z) * PX_PER_M))
        cv2.circle(image, at, round(0.055 * PX_PER_M), (214, 210, 204), -1, cv2.LINE_AA)
        cv2.circle(image, at, round(0.030 * PX_PER_M), (246, 246, 242), -1, cv2.LINE_AA)
    low = nose - 0.30
    _fill(image, [(w * 0.2, low - 0.09), (w * 0.8, low - 0.09), (w * 0.76, low + 0.04), (w * 0.24, low + 0.04)], dark)
    for flip in (False, True):
        fog = [(0.10, low - 0.08), (0.24, low - 0.06), (0.22, low + 0.02), (0.12, low + 0.02)]
        _fill(image, _mirrored(fog, w) if flip else fog, (36, 35, 34))
    _stroke(image, [(0.05, nose - plate_z - plate_h / 2 - 0.06), (w - 0.05, nose - plate_z - plate_h / 2 - 0.06)],
            _lit(paint, 0.5), 0.006)  # fmt: skip
    mask = np.full(image.shape[:2], 255, np.uint8)
    sill = round((nose - CLEARANCE_M) * PX_PER_M)
    mask[sill:] = 0
    _round_off(mask[:sill], round(0.07 * PX_PER_M))
    return image, mask


def _tyres(body: Body) -> tuple[Image, Image]:
    """What is seen beneath the bumper: two tyres, and the dark between them."""
    image = _sheet(body.width, 0.3, (14, 14, 14), (20, 20, 20))
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[: round((0.3 - CLEARANCE_M) * PX_PER_M) + 12] = 255
    for left in (0.05, body.width - 0.05 - TYRE_M):
        columns = slice(round(left * PX_PER_M), round((left + TYRE_M) * PX_PER_M))
        image[:, columns] = (30, 30, 31)
        mask[:, columns] = 255
    return image, mask


def _round_off(mask: Image, radius: int) -> None:
    """Round the lower corners of a mask."""
    quarter = np.zeros((radius, radius), np.uint8)
    cv2.circle(quarter, (radius - 1, 0), radius - 1, 255, -1)
    mask[-radius:, :radius] = np.minimum(mask[-radius:, :radius], quarter)
    mask[-radius:, -radius:] = np.minimum(mask[-radius:, -radius:], quarter[:, ::-1])


def _bonnet(rng: np.random.Generator, body: Body, paint: Bgr) -> tuple[Image, None]:
    run = float(np.hypot(body.bonnet, body.bonnet_z[1] - body.bonnet_z[0]))
    image = _sheet(body.width, run, _lit(paint, 1.22), _lit(paint, 1.02))
    w = body.width
    crease = float(rng.uniform(0.25, 0.34)) * w
    for side in (crease, w - crease):
        towards = 0.06 if side < w / 2 else -0.06
        _stroke(image, [(side, 0.0), (side + towards, run)], _lit(paint, 1.35), 0.012)
        _stroke(image, [(side + 0.014, 0.0), (side + towards + 0.014, run)], _lit(paint, 0.9), 0.012)
    _stroke(image, [(0.0, run - 0.012), (w, run - 0.012)], _lit(paint, 0.5), 0.010)
    for side in (0.1, w - 0.1):
        _stroke(image, [(side, 0.0), (side, run)], _lit(paint, 0.7), 0.006)
    return image, None


def _screen(rng: np.random.Generator, body: Body, paint: Bgr) -> tuple[Image, None]:
    run = float(np.hypot(body.screen, body.height - body.bonnet_z[1]))
    image = _sheet(body.width, run, _lit(paint, 1.1), _lit(paint, 0.95))
    w = body.width
    glass = [(0.13, 0.06), (w - 0.13, 0.06), (w - 0.06, run - 0.02), (0.06, run - 0.02)]
    _fill(image, glass, (52, 48, 44))
    sky = image.copy()
    reach = float(rng.uniform(0.3, 0.8)) * w
    _fill(sky, [(0.14, 0.07), (reach, 0.07), (reach - 0.3, run - 0.03), (0.07, run - 0.03)], (128, 118, 106))
    image = np.asarray(cv2.addWeighted(image, 0.62, cv2.GaussianBlur(sky, (0, 0), 9), 0.38, 0), np.uint8)
    for pivot, tip in ((0.35 * w, 0.1 * w), (0.75 * w, 0.5 * w)):
        _stroke(image, [(pivot, run - 0.03), (tip, run - 0.10)], (20, 20, 20), 0.014)
    return image, None


def _roof(body: Body, paint: Bgr) -> tuple[Image, None]:
    image = _sheet(body.width, body.length - 0.5 - body.bonnet - body.screen, _lit(paint, 1.18), _lit(paint, 1.25))
    return image, None


def _side(rng: np.random.Generator, body: Body, paint: Bgr) -> tuple[Image, Image]:
    length, roof = body.length, body.height
    nose, cowl = body.bonnet_z
    image = _sheet(length, roof, _lit(paint, 0.86), _lit(paint, 0.5))
    back = body.bonnet + body.screen
    waist = roof - cowl + 0.02
    window = [(body.bonnet + 0.28, waist), (back + 0.06, 0.09), (length - 0.9, 0.09), (length - 0.45, waist)]
    _fill(image, window, (40, 37, 34))
    for pillar in (back + 0.55, back + 1.35):
        if pillar < length - 0.6:
            _stroke(image, [(pillar, 0.07), (pillar, waist)], _lit(paint, 0.7), 0.05)
            _stroke(image, [(pillar + 0.02, waist), (pillar + 0.02, roof - 0.3)], _lit(paint, 0.4), 0.008)
            _fill(image, [(pillar - 0.22, waist + 0.12), (pillar - 0.06, waist + 0.12), (pillar - 0.06, waist + 0.15),
                          (pillar - 0.22, waist + 0.15)], _lit(paint, 0.6))  # fmt: skip
    _stroke(image, [(0.1, roof - nose + 0.1), (length, roof - nose + 0.06)], _lit(paint, 1.05), 0.01)
    _fill(image, [(0.0, roof - 0.30), (length, roof - 0.30), (length, roof - 0.19), (0.0, roof - 0.19)], (34, 33, 32))
    mask = np.zeros(image.shape[:2], np.uint8)
    outline = [(0.0, roof - nose), (body.bonnet, roof - cowl), (back, 0.0), (length - 0.5, 0.02), (length, waist),
               (length, roof - 0.6), (length - 0.02, roof - 0.19), (0.0, roof - 0.19)]  # fmt: skip
    _fill_mask(mask, outline)
    for axle in (AXLE_M, length - 0.85):
        hub = (round(axle * PX_PER_M), round((roof - 0.31) * PX_PER_M))
        cv2.circle(image, hub, round(0.36 * PX_PER_M), (24, 23, 22), -1, cv2.LINE_AA)
        cv2.circle(image, hub, round(0.215 * PX_PER_M), (138, 137, 136), -1, cv2.LINE_AA)
        cv2.circle(image, hub, round(0.17 * PX_PER_M), (84, 83, 82), -1, cv2.LINE_AA)
        for spoke in np.arange(5) * 2 * np.pi / 5 + float(rng.uniform(0, 1)):
            tip = (round(hub[0] + np.cos(spoke) * 0.19 * PX_PER_M), round(hub[1] + np.sin(spoke) * 0.19 * PX_PER_M))
            cv2.line(image, hub, tip, (140, 139, 138), round(0.04 * PX_PER_M), cv2.LINE_AA)
        cv2.circle(mask, hub, round(0.31 * PX_PER_M), 255, -1)
    return image, mask


def _fill_mask(mask: Image, points: Points) -> None:
    cv2.fillPoly(mask, [np.round(np.array(points) * PX_PER_M).astype(np.int32)], 255)
