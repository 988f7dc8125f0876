"""Many frames of one visit, one reading: the vote. Pure and deterministic.

Sightings of one plate are gathered into a track. Every text that any sighting thinks possible, and the text that the
sightings make character by character, is then judged by all of them: by its exact CTC probability under each.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge.reading.look import region_shares
from edge.reading.ocr import Candidates, character_confidence, log_likelihood
from edge.reading.reader import FramePlate, FrameReading
from edge.reading.rectify import plate_height, plate_width
from edge.reading.region import fitting, fold, ranked
from edge.record import Alternative, NoRead, PlateReading, PlateText, Quality

MAX_SIGHTINGS = 48
"""Sightings of one plate that take part in the vote; a better one replaces the weakest."""
MAX_CANDIDATES = 24
MAX_ALTERNATIVES = 4


@dataclass(frozen=True, slots=True)
class VoteSettings:
    """When a vote is over, and how it counts.

    settle_frames, settle_probability: as many agreeing sightings, and this probability, settle it; accept: a text that
    is less probable is no reading; floor: what a text is worth at least to a sighting, so that one spoilt frame can't
    rule it out; independence: how much a further frame counts (frames of one visit share their mistakes).
    """

    settle_frames: int = 3
    settle_probability: float = 0.99
    accept: float = 0.4
    floor: float = 1e-4
    independence: float = 0.35


@dataclass(frozen=True, slots=True, eq=False)  # sightings are told apart by identity: their arrays have no one truth
class _Sighting:
    plate: FramePlate
    quality: Quality
    weight: float
    """How much the sighting speaks for its plate being the visit's: height, place in the frame, legibility."""
    known: dict[str, float] = field(default_factory=dict)
    """Log-probability of texts asked for so far."""


class Vote:
    """One visit's vote: `add` every frame's reading in the order of time, ask `settled`, take the `result`."""

    def __init__(self, settings: VoteSettings | None = None) -> None:
        self._settings = settings or VoteSettings()
        self._tracks: list[list[_Sighting]] = []
        self._frames = 0
        self._most_found = 0
        self._reasons: Counter[NoRead] = Counter()
        self._brightness = 0.0

    def add(self, reading: FrameReading, exposure_us: float | None, gain: float | None) -> None:
        """One frame, with the camera's own word about it."""
        self._frames += 1
        self._most_found = max(self._most_found, len(reading.plates))
        self._brightness += reading.brightness
        if reading.reason is not None:
            self._reasons[reading.reason] += 1
        open_tracks = list(self._tracks)
        for plate in reading.plates:
            quality = replace(plate.quality, exposure_us=exposure_us, gain=gain)
            sighting = _Sighting(plate, quality, _weight(plate, reading))
            track = next((track for track in open_tracks if _same_plate(track, plate)), None)
            if track is None:
                self._tracks.append([sighting])
            else:
                open_tracks.remove(track)
                track.append(sighting)
                if len(track) > MAX_SIGHTINGS:
                    track.remove(min(track, key=lambda s: s.weight))

    @property
    def settled(self) -> bool:
        """Further frames would hardly change the result."""
        track = self._leading()
        if track is None or len(track) < self._settings.settle_frames:
            return False
        text, probability = self._judged(track)[0]
        agreeing = sum(s.plate.text == text for s in track)
        return agreeing >= self._settings.settle_frames and probability >= self._settings.settle_probability

    def result(self) -> PlateReading:
        """A text, or the reason for none. frames_seen is the number of frames that were added."""
        track = self._leading()
        if track is None:
            brightness = self._brightness / self._frames if self._frames else None
            return PlateReading(
                text=None,
                no_read=next((reason for reason, _ in self._reasons.most_common(1)), NoRead.NO_PLATE),
                frames_seen=self._frames,
                quality=Quality(brightness=brightness),
            )
        candidates = self._judged(track)
        text, probability = candidates[0]
        reasons = Counter(s.plate.no_read for s in track)
        used = reasons.pop(None, 0)
        read = bool(text) and used > 0 and probability >= self._settings.accept
        doubt = NoRead.UNSURE if 2 * used >= len(track) else reasons.most_common(1)[0][0]
        others = candidates[1:] if read else candidates
        region, region_probability = next(iter(_regions(track).items()))
        best = max(track, key=lambda s: (s.plate.confidence * plate_height(s.plate.quad), s.weight))
        return PlateReading(
            text=PlateText(text) if read else None,
            no_read=None if read else doubt,
            confidence=probability if read else 0.0,
            chars=character_confidence(candidates) if read else (),
            alternatives=tuple(Alternative(PlateText(t), p) for t, p in others[:MAX_ALTERNATIVES] if t),
            region=region,
            region_confidence=region_probability,
            syntax=fitting(text, region) if read else None,
            frames_seen=self._frames,
            frames_used=used,
            frames_agreeing=sum(s.plate.text == text for s in track) if read else 0,
            detector_score=max(s.plate.score for s in track),
            plates_in_frame=self._most_found,
            quality=best.quality,
        )

    def _leading(self) -> list[_Sighting] | None:
        """The track that is most likely the visit's vehicle: near, central, legible and long in view."""
        return max(self._tracks, key=lambda track: sum(s.weight for s in track), default=None)

    def _judged(self, track: list[_Sighting]) -> Candidates:
        """Texts with their probabilities given all sightings, best first; the sum lacks what no text holds."""
        texts = _texts(track)
        table = np.array([_log_likelihoods(sighting, texts) for sighting in track])
        table = np.concatenate([table, _unlisted(track, table)], 1)
        table = np.logaddexp(table, np.log(self._settings.floor))
        together = _summed(table, [*map(fold, texts), None], self._settings.independence)
        shares = np.exp(together - together.max())
        shares /= shares.sum()
        return ranked([(text, float(p)) for text, p in zip(texts, shares, strict=False)], _regions(track))


def _summed(table: NDArray[np.float64], classes: Sequence[str | None], independence: float) -> NDArray[np.float64]:
    """(texts,): log-probability by all sightings together, each further one counting as `independence` of one.

    table: (sightings, texts). Between texts of one class, which differ in look-alikes alone, further sightings prove
    nothing: a typeface that draws these one way does so in every frame. There the sightings' mean decides.
    """
    count = len(table)
    together = np.empty(table.shape[1])
    for each in dict.fromkeys(classes):
        members = [number for number, its in enumerate(classes) if its == each]
        whole = np.logaddexp.reduce(table[:, members], axis=1)
        within = (table[:, members] - whole[:, None]).mean(0)
        together[members] = whole.mean() * (1 + independence * (count - 1)) + within - np.logaddexp.reduce(within)
    return together


def _texts(track: list[_Sighting]) -> list[str]:
    """What the sightings think possible, the most probable first, and what they say character by character."""
    shares: defaultdict[str, float] = defaultdict(float)
    for sighting in track:
        shares[sighting.plate.text] += sighting.plate.confidence
        for alternative in sighting.plate.alternatives:
            shares[alternative.text] += alternative.probability
    texts = sorted(shares, key=lambda text: -shares[text])[:MAX_CANDIDATES]
    for length in {len(text) for text in texts[:3]} - {0}:
        columns: list[defaultdict[str, float]] = [defaultdict(float) for _ in range(length)]
        for sighting in track:
            if len(sighting.plate.text) == length:
                for column, symbol, p in zip(columns, sighting.plate.text, sighting.plate.chars, strict=True):
                    column[symbol] += p
        if all(columns):
            texts.append("".join(max(column, key=column.__getitem__) for column in columns))
    return list(dict.fromkeys(str(text) for text in texts))


def _log_likelihoods(sighting: _Sighting, texts: list[str]) -> list[float]:
    missing = [text for text in texts if text not in sighting.known]
    if missing:
        characters = sighting.plate.characters
        values = log_likelihood(characters.log_probs, missing, characters.alphabet)
        sighting.known.update(zip(missing, values.tolist(), strict=True))
    return [sighting.known[text] for text in texts]


def _unlisted(track: list[_Sighting], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """(sightings, 1): log-probability of the text that isn't in the table: at most what the listed ones leave. Several
    sightings would have to mean one text that none of them lists, so it is also less probable than the least listed."""
    left = 1 - np.exp(table).sum(1)
    if len(track) > 1:
        least = [min([s.plate.confidence, *(a.probability for a in s.plate.alternatives)]) for s in track]
        left = np.minimum(left, least)
    return np.asarray(np.log(np.clip(left, 1e-9, 1))[:, None], np.float64)


def _regions(track: list[_Sighting]) -> dict[str, float]:
    """Issuers by the sightings' mean log-probability."""
    mean = np.mean([s.plate.characters.region_log_probs for s in track], axis=0)
    shifted: NDArray[np.float32] = mean - np.log(np.exp(mean).sum())
    return region_shares(shifted, track[0].plate.characters.regions)


def _weight(plate: FramePlate, reading: FrameReading) -> float:
    centre = plate.quad.mean(0) / (reading.width, reading.height) - 0.5
    central = 1 - min(1.0, float(np.hypot(*centre)))
    return plate_height(plate.quad) * (0.3 + central) * (0.1 + plate.confidence) * plate.score


def _same_plate(track: list[_Sighting], plate: FramePlate) -> bool:
    """By text where both can be read: two vehicles may follow each other through one place; else by place and size."""
    last = track[-1].plate
    legible = [s.plate for s in track if s.plate.no_read is None]
    if plate.no_read is None and legible:
        best = max(legible, key=lambda p: p.confidence)
        longer = max(len(best.text), len(plate.text))
        if _edits(best.text, plate.text) <= max(1, round(0.35 * longer)):
            return True
        if min(best.confidence, plate.confidence) > 0.5:
            return False
    reach = 2.0 * max(plate_width(last.quad), plate_width(plate.quad))
    step = float(np.hypot(*(last.quad.mean(0) - plate.quad.mean(0))))
    ratio = plate_height(last.quad) / max(plate_height(plate.quad), 1e-6)
    return step <= reach and 0.5 <= ratio <= 2.0


def _edits(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[len(b)]
