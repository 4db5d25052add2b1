"""Max-min shares: nobody gets more than the demand, and the unwanted rest goes to the others."""

from collections.abc import Sequence


def max_min(demands: Sequence[tuple[float, int]], lines: float) -> list[float]:
    """Return the share of `lines` for each (weight, demand); the unwanted rest goes to the others by weight."""
    shares = [0.0] * len(demands)
    weight_left = sum(weight for weight, _ in demands)
    for number in sorted(range(len(demands)), key=lambda each: demands[each][1] / demands[each][0]):
        weight, demand = demands[number]
        shares[number] = min(float(demand), lines * weight / weight_left) if weight_left > 0 else 0.0
        lines -= shares[number]
        weight_left -= weight
    return shares
