"""How a vehicle moves through the lane, and when a loop feels it. Pure: metres and seconds in, metres and seconds out.

`s` is how far the front bumper is past the first loop's leading edge: negative while it approaches.
"""

import math
from dataclasses import dataclass

APPROACH_M = 25.0
"""Where a vehicle comes into view, before the loop."""
BRAKING_MPS2 = 2.5
FASTEST_APPROACH_MPS = 14.0
STEADY_M = 2.0
STEADY_S = 0.7
"""Drivers have reached their speed for the lane this far, and this long, before the loop."""
LOOP_M = 2.0
"""Length of a loop along the lane."""
SIGHT_M = 6.0
"""A rear this far past the first loop's leading edge is beside the camera, out of its sight."""
WAIT_S = 0.05
CLEAR_M = 1.0
"""What drivers leave between themselves and the one before them, looked at every WAIT_S."""


@dataclass(frozen=True, slots=True)
class Motion:
    """One drive through: braking from the road's speed, then steady at `speed_mps`; a stop of `stand_s` once the front
    is `stand_at_m` past the first loop's leading edge."""

    speed_mps: float
    length_m: float
    stand_at_m: float = 1.5
    stand_s: float = 0.0

    @property
    def _steady_m(self) -> float:
        return min(STEADY_M + STEADY_S * self.speed_mps, APPROACH_M)

    @property
    def _entry_mps(self) -> float:
        free = math.sqrt(self.speed_mps**2 + 2 * BRAKING_MPS2 * (APPROACH_M - self._steady_m))
        return max(self.speed_mps, min(free, FASTEST_APPROACH_MPS))

    @property
    def _phases(self) -> tuple[float, float]:
        """Seconds at the entry speed, then seconds of braking."""
        entry = self._entry_mps
        braking_m = (entry**2 - self.speed_mps**2) / (2 * BRAKING_MPS2)
        return (APPROACH_M - self._steady_m - braking_m) / entry, (entry - self.speed_mps) / BRAKING_MPS2

    @property
    def approach_s(self) -> float:
        """From coming into view to the first loop's leading edge."""
        return sum(self._phases) + self._steady_m / self.speed_mps

    def position(self, t: float) -> float:
        """`s` in metres, `t` seconds after coming into view."""
        cruise, braking = self._phases
        entry = self._entry_mps
        if t < cruise:
            return -APPROACH_M + entry * t
        if t < cruise + braking:
            u = t - cruise
            return -APPROACH_M + entry * cruise + entry * u - BRAKING_MPS2 * u * u / 2
        steady = t - cruise - braking
        stands = cruise + braking + (self._steady_m + self.stand_at_m) / self.speed_mps
        stood = min(max(t - stands, 0.0), self.stand_s)
        return -self._steady_m + self.speed_mps * (steady - stood)

    def speed(self, t: float) -> float:
        """m/s at `t`."""
        return (self.position(t + 1e-3) - self.position(t - 1e-3)) / 2e-3

    def reaches(self, s: float) -> float:
        """When the front is `s` past the leading edge; `s` >= 0. A vehicle that stands there has reached it before."""
        return self.approach_s + s / self.speed_mps + (self.stand_s if s > self.stand_at_m else 0.0)

    @property
    def gone_s(self) -> float:
        """From coming into view to being out of sight."""
        return self.reaches(SIGHT_M + self.length_m)

    def follows(self, before: "Motion", clear_s: float) -> float:
        """When this vehicle may come into view, on the clock of the one before it: it comes onto the loop at `clear_s`
        at the earliest, overtakes nobody and drives into nobody."""
        start_s = max(before.approach_s, clear_s - self.approach_s, before.gone_s - self.reaches(SIGHT_M))
        while self._meets(before, start_s):
            start_s += WAIT_S
        return start_s

    def _meets(self, before: "Motion", start_s: float) -> bool:
        """Would it touch the one before it, which may stand, if it came into view at `start_s`?"""
        steps = math.ceil(max(before.gone_s - start_s, 0.0) / WAIT_S)
        return any(
            self.position(i * WAIT_S) + CLEAR_M > before.position(start_s + i * WAIT_S) - before.length_m
            for i in range(steps + 1)
        )

    def presence(self, loop_at_m: float) -> tuple[float, float]:
        """When a loop that begins `loop_at_m` past the first one's leading edge feels the vehicle come and go."""
        return self.reaches(loop_at_m), self.reaches(loop_at_m + LOOP_M + self.length_m)
