"""Max-min shares: nobody gets more than it wants, and what some leave goes to the rest."""

from collections.abc import Sequence


def max_min(demands: Sequence[tuple[float, int]], lines: float) -> list[float]:
    """Return how many of `lines` each of (weight, demand) deserves: what some don't want goes to the rest by weight."""
    shares = [0.0] * len(demands)
    weight_left = sum(weight for weight, _ in demands)
    for number in sorted(range(len(demands)), key=lambda each: demands[each][1] / demands[each][0]):
        weight, demand = demands[number]
        shares[number] = min(float(demand), lines * weight / weight_left) if weight_left > 0 else 0.0
        lines -= shares[number]
        weight_left -= weight
    return shares
