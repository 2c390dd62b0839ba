"""Settings of the search for words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lhuc_asr.decoding.lattices.reading import HypothesisKind
from lhuc_asr.ranges import require_finite, require_positive


class Search(Enum):
    """Which of Kaldi's decoders finds the best path; lattices always come from the second."""

    faster = "faster"
    lattice = "lattice"


@dataclass(kw_only=True, slots=True)
class DecodingConfig:
    """How words are searched.

    Attributes:
        acoustic_scale: factor on the log-likelihoods; neighbouring frames are not independent, so it is far below 1.
        insertion_penalty: cost of every word; positive makes hypotheses shorter, negative longer.
        beam: paths worse than the best by more than this cost are dropped.
        max_active: at most that many paths are followed at a time (not honoured by the lattice search).
        search: which decoder gives the best path.
        hypothesis: which words are taken; all but ``one_best`` need lattices, which take longer.
        lattice_search_beam: ``beam`` of the search for lattices. It has no ``max_active``, so time and memory grow
            fast: on hard speech ten times from 9 to 13, for lattices that are hardly larger. Where the best path of
            the search with ``beam`` was lost, it is 1.2 times as wide; then that path is put into the lattice.
        lattice_beam: paths of a lattice are at most this much worse than its best path.
    """

    acoustic_scale: float = 0.1
    insertion_penalty: float = 0.0
    beam: float = 13.0
    max_active: int = 3000
    search: Search = Search.faster
    hypothesis: HypothesisKind = HypothesisKind.one_best
    lattice_search_beam: float = 9.0
    lattice_beam: float = 6.0

    def __post_init__(self) -> None:
        limits = ("acoustic_scale", "beam", "max_active", "lattice_search_beam", "lattice_beam")
        require_positive(self, "decoding", *limits)
        require_finite(self, "decoding", *limits, "insertion_penalty")
