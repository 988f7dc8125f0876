"""How long to wait before the next attempt: doubled after each failure, capped, back to the start after a success."""

from dataclasses import dataclass, field

STEADY_S = 10.0
"""A device that answered for this long was back: the next failure is a first one."""


@dataclass(slots=True)
class Backoff:
    """`first_s` after the first failure, twice as long after each further one, at most `cap_s`."""

    first_s: float = 0.25
    cap_s: float = 8.0
    _next_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.succeeded()

    def failed(self) -> float:
        """Seconds to wait now, after a failure."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self.cap_s)
        return wait_s

    def succeeded(self) -> None:
        self._next_s = min(self.first_s, self.cap_s)
