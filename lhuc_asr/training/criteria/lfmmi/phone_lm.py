"""A phone n-gram model without back-off: after each history only the phones that were seen there can follow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.hmm.states.topology import EDGE
from lhuc_asr.training.criteria.lfmmi.phone_graph import PhoneGraph

History = tuple[int, ...]
START: History = (EDGE,)
"""The history at the beginning of an utterance; as a phone that follows, ``EDGE`` is the end."""
_Counts = dict[History, dict[int, float]]


@dataclass(kw_only=True, slots=True)
class PhoneLmConfig:
    """Size of the phone language model of the denominator.

    Attributes:
        order: longest n-gram.
        kept_order: histories of n-grams up to this order are all kept.
        num_extra_histories: of the longer histories, the most frequent ones that are kept as well; the others give
            their counts to their longest kept ending.

    Source: the defaults of Povey et al. 2016 (Interspeech), section 2.2, and of Kaldi's chain-est-phone-lm.
    """

    order: int = 4
    kept_order: int = 3
    num_extra_histories: int = 2000

    def __post_init__(self) -> None:
        if not 2 <= self.kept_order <= self.order <= 8:
            raise ConfigError(f"2 <= kept_order <= order <= 8 must hold, got {self.kept_order} and {self.order}")
        if self.num_extra_histories < 0:
            raise ConfigError(f"num_extra_histories must be at least 0, got {self.num_extra_histories}")


@dataclass(frozen=True, slots=True)
class Step:
    """What one phone does to a history.

    Attributes:
        log_prob: of the phone after the history, nats.
        history: the one after it.
    """

    log_prob: float
    history: History


@dataclass(frozen=True)
class PhoneLm:
    """Phone probabilities after histories of different lengths.

    Attributes:
        log_probs: history -> phone (0 is the end) -> nats.
        unseen_log_prob: of a phone that was never seen after its history. The denominator has no such arc; numerators
            of other transcripts than those of the estimate may need it.

    Example:
        >>> lm = PhoneLm.estimate([PhoneGraph.of_phones([2, 3]), PhoneGraph.of_phones([2, 4])])
        >>> round(math.exp(lm.step((0, 2), 4).log_prob), 6), lm.step((0, 2), 4).history
        (0.5, (0, 2, 4))
    """

    log_probs: Mapping[History, Mapping[int, float]]
    unseen_log_prob: float = math.log(1e-5)

    @staticmethod
    def estimate(graphs: Iterable[PhoneGraph], config: PhoneLmConfig | None = None) -> PhoneLm:
        """Relative frequencies of phones; alternatives of a graph count by their probability.

        So the model allows every phone sequence that one of the graphs allows.

        Raises:
            DataError: there are no graphs.
        """
        config = config or PhoneLmConfig()
        counts: _Counts = defaultdict(lambda: defaultdict(float))
        for graph in graphs:
            _count(graph, config.order, counts)
        if not counts:
            raise DataError("a phone language model needs at least one phone sequence")
        kept = _kept_histories(counts, config)
        pooled: _Counts = defaultdict(lambda: defaultdict(float))
        for history, following in counts.items():
            for phone, count in following.items():
                pooled[_longest_ending(history, kept)][phone] += count
        return PhoneLm({history: _log_shares(following) for history, following in pooled.items()})

    def step(self, history: History, phone: int) -> Step:
        """Say one phone, or end with phone 0."""
        log_prob = self.log_probs.get(history, {}).get(phone, self.unseen_log_prob)
        return Step(log_prob, history if phone == EDGE else _longest_ending((*history, phone), self.log_probs))

    @property
    def num_arcs(self) -> int:
        """N-grams that the model holds, ends among them."""
        return sum(map(len, self.log_probs.values()))


def _count(graph: PhoneGraph, order: int, counts: _Counts) -> None:
    """Add the expected number of each n-gram over all paths."""
    reached: list[dict[History, float]] = [{} for _ in graph.arcs]
    reached[0][START] = 1.0
    for node, histories in enumerate(reached):
        for history, mass in histories.items():
            if node in graph.final:
                counts[history][EDGE] += mass * graph.final[node]
            for arc in graph.arcs[node]:
                counts[history][arc.phone] += mass * arc.probability
                longer = (*history, arc.phone)[-(order - 1) :]
                there = reached[arc.target]
                there[longer] = there.get(longer, 0.0) + mass * arc.probability


def _kept_histories(counts: _Counts, config: PhoneLmConfig) -> set[History]:
    """All short histories and the most frequent long ones; with a history, its beginning is kept too."""
    totals: dict[History, float] = defaultdict(float)
    for history, following in counts.items():
        for begin in range(len(history)):
            totals[history[begin:]] += sum(following.values())
    short = {history for history in totals if len(history) < config.kept_order}
    longer = sorted(
        (history for history in totals if len(history) >= config.kept_order),
        key=lambda history: (-round(totals[history], 6), len(history), history),
    )
    kept = short | set(longer[: config.num_extra_histories])
    phones = {phone for following in counts.values() for phone in following if phone != EDGE}
    return kept | {(phone,) for phone in phones}


def _longest_ending(history: History, kept: Collection[History]) -> History:
    while history not in kept and len(history) > 1:
        history = history[1:]
    return history


def _log_shares(following: Mapping[int, float]) -> dict[int, float]:
    total = sum(following.values())
    return {phone: math.log(count / total) for phone, count in sorted(following.items())}
