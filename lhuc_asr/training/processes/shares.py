"""How a minibatch is divided among processes that train one network together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The part that one process takes of every minibatch.

    Attributes:
        number: of the process, from 0.
        of: number of processes.
    """

    number: int = 0
    of: int = 1

    def among(self, costs: Sequence[float]) -> list[int]:
        """Which of some things this process takes, so that all processes have about as much to do.

        The things go one by one, the costliest first, to the process that has least; so the processes' sums differ by
        no more than one thing, every thing goes to exactly one of them, and a process may have none.

        Args:
            costs: what each of them costs.

        Returns:
            Their numbers, in order.

        Example:
            >>> [Share(number, 2).among([5, 4, 3, 3, 2]) for number in (0, 1)]
            [[0, 3], [1, 2, 4]]

        Source: Graham 1969, "Bounds on multiprocessing timing anomalies", the rule of the longest processing time.
        """
        sums = [0.0] * self.of
        taken = []
        for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
            process = sums.index(min(sums))
            sums[process] += costs[index]
            if process == self.number:
                taken.append(index)
        return sorted(taken)


ALL = Share()
"""Of a process that trains alone."""
