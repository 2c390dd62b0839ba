"""Several tests at once: p-values raised so that any false discovery among all of them stays as rare as one alone."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method; whatever is at most 0.05 afterwards holds jointly at 5 %.

    It asks nothing of how the tests depend on each other, which tests of systems on the same speech do.

    Args:
        p_values: of all tests of a family, in any order.

    Returns:
        The adjusted ones in the same order, 1 at most.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
