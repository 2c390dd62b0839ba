"""All the phone sequences that a transcript allows, and how likely each is before anything is heard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lhuc_asr.errors import ConfigError
from lhuc_asr.hmm.states.topology import SILENCE


@dataclass(frozen=True, slots=True)
class PhoneArc:
    """One phone on the way from a node to another."""

    phone: int
    target: int
    probability: float


@dataclass(frozen=True)
class PhoneGraph:
    """Nodes in topological order, the first is the start; what leaves a node, its end included, adds up to 1.

    Attributes:
        arcs: of every node.
        final: node -> chance that the utterance ends there.

    Example:
        >>> graph = PhoneGraph.of_words([[[2, 3], [4]]], silence_probability=0.5)
        >>> sorted({tuple(sequence) for sequence in graph.sequences()})[:3]
        [(1, 2, 3), (1, 2, 3, 1), (1, 4)]
    """

    arcs: tuple[tuple[PhoneArc, ...], ...]
    final: Mapping[int, float]

    @staticmethod
    def of_phones(phones: Sequence[int]) -> PhoneGraph:
        """Exactly these phones, for example those of an alignment."""
        arcs = [(PhoneArc(phone, position + 1, 1.0),) for position, phone in enumerate(phones)]
        return PhoneGraph((*arcs, ()), {len(phones): 1.0})

    @staticmethod
    def of_words(words: Sequence[Sequence[Sequence[int]]], *, silence_probability: float = 0.5) -> PhoneGraph:
        """Every pronunciation of every word, with optional silence before the first word and after each.

        Args:
            words: pronunciations of every word in turn, in phone ids; no words at all is an utterance of silence.
            silence_probability: in (0, 1).

        Raises:
            ConfigError: the probability is outside (0, 1).
        """
        if not 0 < silence_probability < 1:
            raise ConfigError(f"silence_probability lies between 0 and 1, got {silence_probability}")
        if not words:
            return PhoneGraph.of_phones([SILENCE])
        arcs: list[list[PhoneArc]] = []
        spoken, silent = _boundary(arcs, silence_probability)
        for pronunciations in words:
            before, share = (spoken, silent), 1.0 / len(pronunciations)
            inner = len(arcs)
            arcs.extend([] for pronunciation in pronunciations for _ in pronunciation[1:])
            spoken, silent = _boundary(arcs, silence_probability)
            for pronunciation in pronunciations:
                nodes = [*range(inner, inner + len(pronunciation) - 1), spoken]
                inner += len(pronunciation) - 1
                arcs[before[0]].append(PhoneArc(pronunciation[0], nodes[0], share * (1 - silence_probability)))
                arcs[before[1]].append(PhoneArc(pronunciation[0], nodes[0], share))
                for source, target, phone in zip(nodes, nodes[1:], pronunciation[1:], strict=False):
                    arcs[source].append(PhoneArc(phone, target, 1.0))
        return PhoneGraph(tuple(map(tuple, arcs)), {spoken: 1 - silence_probability, silent: 1.0})

    def sequences(self) -> Iterable[list[int]]:
        """Every phone sequence, one for each path; for small graphs."""
        waiting: list[tuple[int, list[int]]] = [(0, [])]
        while waiting:
            node, said = waiting.pop()
            if node in self.final:
                yield said
            waiting.extend((arc.target, [*said, arc.phone]) for arc in self.arcs[node])


def _boundary(arcs: list[list[PhoneArc]], silence_probability: float) -> tuple[int, int]:
    """Two new nodes between words: just spoken, and after a silence."""
    spoken = len(arcs)
    arcs.append([PhoneArc(SILENCE, spoken + 1, silence_probability)])
    arcs.append([])
    return spoken, spoken + 1
