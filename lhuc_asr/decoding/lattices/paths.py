"""The best path of a lattice, of all or of those that say given words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lhuc_asr.decoding.lattices.lattice import Lattice


@dataclass(frozen=True, eq=False)
class LatticePath:
    """One path from start to end.

    Attributes:
        words: word ids in order.
        transition_ids: (T,) int32, one a frame.
        graph_cost: of its arcs and its end, unscaled.
        acoustic_cost: of its arcs, with the acoustic scale of the search.
    """

    words: tuple[int, ...]
    transition_ids: NDArray[np.int32]
    graph_cost: float
    acoustic_cost: float


def best_path(
    lattice: Lattice, *, words: Sequence[int] | None = None, acoustic_scale: float | None = None
) -> LatticePath | None:
    """The cheapest path.

    Args:
        lattice: of one utterance.
        words: word ids that the path must say, no more and no less; without it any words.
        acoustic_scale: factor on the log-likelihoods; without it the one of the search.

    Returns:
        The path, or None when no path says these words.
    """
    wanted = np.asarray(() if words is None else words, np.int32)
    best = np.full((lattice.num_states, len(wanted) + 1), np.inf)
    back = np.full(best.shape, -1, np.int32)
    labels = np.zeros_like(lattice.word) if words is None else lattice.word
    _search(lattice.source, lattice.target, labels, lattice.costs(acoustic_scale), wanted, best, back)
    ends = best[:, -1] + lattice.final_costs()
    last = int(np.argmin(ends))
    if not np.isfinite(ends[last]):
        return None
    return _path(lattice, _arcs_back_from(last, lattice, labels, back), last)


def _arcs_back_from(state: int, lattice: Lattice, labels: NDArray[np.int32], back: NDArray[np.int32]) -> list[int]:
    arcs, said = [], back.shape[1] - 1
    while (arc := int(back[state, said])) >= 0:
        arcs.append(arc)
        state = int(lattice.source[arc])
        said -= int(labels[arc] > 0)
    return arcs[::-1]


def _path(lattice: Lattice, arcs: list[int], last: int) -> LatticePath:
    word, transition_id = lattice.word[arcs], lattice.transition_id[arcs]
    return LatticePath(
        words=tuple(word[word > 0].tolist()),
        transition_ids=transition_id[transition_id > 0].astype(np.int32),
        graph_cost=float(lattice.graph_cost[arcs].sum(dtype=np.float64) + lattice.final_cost[last]),
        acoustic_cost=float(lattice.acoustic_cost[arcs].sum(dtype=np.float64)),
    )


def _search_python(source: Any, target: Any, labels: Any, costs: Any, wanted: Any, best: Any, back: Any) -> None:
    """``best`` (S, K + 1): cost of reaching a state with so many of the words said; ``back``: the arc that did it."""
    best[0, 0] = 0.0
    for arc in range(len(source)):
        step = 1 if labels[arc] > 0 else 0
        for said in range(len(wanted) + 1 - step):
            if step == 1 and wanted[said] != labels[arc]:
                continue
            cost = best[source[arc], said] + costs[arc]
            if cost < best[target[arc], said + step]:
                best[target[arc], said + step] = cost
                back[target[arc], said + step] = arc


_search: Any = numba.njit(cache=True)(_search_python)
