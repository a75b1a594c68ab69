"""Axes of plots: positions of values, and which values get a tick."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cellmill.metrics.decimals import MINUS, round_decimals, round_digits


@dataclass(frozen=True)
class Scale:
    """Mapping of an axis's values to px of the drawing; a whole axis, such as epochs, has ticks at integers only."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_whole: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value in px; values beyond the axis are clipped to its ends."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Return about three to eight round values with their text, with equal decimals on a linear axis."""
        if self.is_log:
            return [(tick, _number(tick)) for tick in log_ticks(self.low, self.high)]
        ticks = round_ticks(self.low, self.high)
        if self.is_whole and any(tick % 1 for tick in ticks):
            ticks = [float(number) for number in range(math.ceil(self.low), math.floor(self.high) + 1)]
        decimals = max((len(f"{tick:.10g}".partition(".")[2]) for tick in ticks), default=0)
        if decimals > 4 or max(map(abs, ticks), default=0) >= 1e6:
            return [(tick, _number(tick)) for tick in ticks]
        return [(tick, round_decimals(tick, decimals)) for tick in ticks]


def round_ticks(low: float, high: float) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten in an interval: three to eight."""
    wanted = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(wanted))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / wanted)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten in an interval; if fewer than three, also 3 times, or 2 and 5 times, these powers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [f * 10.0**power for power in range(first, last + 1) for f in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            return ticks[:: max(1, len(ticks) // 6)]
    return round_ticks(low, high)


def span_of(values: Iterable[float], *, include: tuple[float, ...] = (), is_log: bool = False) -> tuple[float, float]:
    """Return an axis range with all values and a small margin; without values (0, 1), or (0.1, 1) if logarithmic."""
    known = [value for value in values if math.isfinite(value) and not (is_log and value <= 0)]
    known += include
    if not known:
        return (0.1, 1.0) if is_log else (0.0, 1.0)
    low, high = min(known), max(known)
    if is_log:
        return (low / 1.2, high * 1.2)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    return (low if low in include else low - room), (high if high in include and high > low else high + room)


def _number(value: float) -> str:
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    text = round_digits(value, 6, separator=",") if abs(value) < 1e4 else round_decimals(value, 0)
    return MINUS + text[1:] if text.startswith("-") else text
