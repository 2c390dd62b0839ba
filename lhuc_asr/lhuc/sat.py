"""SAT-LHUC: weights and all training speakers' scales learn together, and row 0 for nobody in particular."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.lhuc.amplitude import Amplitude
from lhuc_asr.lhuc.row_updates import RowAdam, RowSgd, RowUpdate, RowUpdateKind
from lhuc_asr.lhuc.rows import SPEAKER_INDEPENDENT
from lhuc_asr.lhuc.scale_table import RowGradients, ScaleTable
from lhuc_asr.ranges import require_at_least
from lhuc_asr.tensors import digest


class Routing(Enum):
    """For what it is drawn whether the speaker's row or row 0 is taken.

    ``frame``: anew for each example whenever it is learnt from; an example is a frame with its window, or an utterance
    where networks learn from whole ones. ``segment``: once for each utterance, before training. ``speaker``: once for
    each speaker, so that some speakers have no row of their own.
    """

    frame = "frame"
    segment = "segment"
    speaker = "speaker"


class TableDevice(Enum):
    """Where the table lies: beside the weights, or in the memory of the processor."""

    auto = "auto"
    cpu = "cpu"


@dataclass(kw_only=True, slots=True)
class SatConfig:
    """Speaker-adaptive training.

    Attributes:
        share: gamma, the probability that an example goes through row 0, which is what recognises speech of unknown
            speakers and where adaptation begins; None trains without any scales. With 0 all speech goes through
            speakers' rows, and row 0 stays the identity.
        routing: for what that is drawn.
        learn_independent: whether row 0 learns; if not, it stays the identity.
        amplitude: how a parameter becomes a factor.
        layers: numbers of hidden layers, 1 is the lowest, or patterns of layer names; empty means every hidden layer.
        update: how gradients of the scales become steps; None takes that of the weights.
        lr_factor: learning rate of the scales as a multiple of that of the weights.
        table: where the scales lie; ``cpu`` is for more speakers than fit into the memory of a GPU.
        keep_speakers: write the training speakers' scales beside the model, as profiles, of those who learnt anything:
            nobody does with a share of 1.

    When not to use it: where nobody will be adapted to, or speakers are not told apart in the training data.

    Source: Swietojanski, Li & Renals 2016 (arXiv:1601.02828), section IV and table III: drawn for each frame, gamma
    0.5 to 0.6, exp. With share=0: Xie et al. 2019 and Deng et al. 2022 (arXiv:2206.12045).
    """

    share: float | None = None
    routing: Routing = Routing.frame
    learn_independent: bool = True
    amplitude: Amplitude = Amplitude.exp
    layers: list[int | str] = field(default_factory=list)
    update: RowUpdateKind | None = None
    lr_factor: float = 1.0
    table: TableDevice = TableDevice.auto
    keep_speakers: bool = True

    def __post_init__(self) -> None:
        if self.share is not None and not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"sat.share must lie in [0, 1], or be null for training without scales, got {self.share}")
        require_at_least(0, self, "sat", "lr_factor")
        for layer in self.layers:
            if isinstance(layer, int) and layer < 1:
                raise ConfigError(f"sat.layers counts hidden layers from 1 at the bottom, got {layer}")

    @property
    def is_active(self) -> bool:
        """Whether there are scales to train."""
        return self.share is not None


class SpeakerRouting:
    """Which row an example takes: its speaker's, or row 0.

    Args:
        speaker_of: name of each utterance -> its speaker.
        config: share and routing.
        seed: of what is drawn once, before training.

    Attributes:
        speakers: sorted; the row of each is its place in this list, from 1.

    Example:
        >>> routing = SpeakerRouting({"a-1": "anna", "b-1": "ben"}, SatConfig(share=0.0))
        >>> routing.rows(["b-1", "a-1", "b-1"], torch.Generator())
        tensor([2, 1, 2])
    """

    def __init__(self, speaker_of: Mapping[str, str], config: SatConfig, *, seed: int = 0) -> None:
        assert config.share is not None
        self.share, self.routing = config.share, config.routing
        self.speakers = tuple(sorted(set(speaker_of.values())))
        row_of = {speaker: row for row, speaker in enumerate(self.speakers, start=1)}
        random = torch.Generator().manual_seed(seed)
        if self.routing is Routing.speaker:
            row_of = self._thinned(row_of, random)
        self._row_of = {name: row_of[speaker_of[name]] for name in sorted(speaker_of)}
        if self.routing is Routing.segment:
            self._row_of = self._thinned(self._row_of, random)

    @property
    def own_rows(self) -> dict[str, int]:
        """Speaker -> row, of those whose row speech may be learnt with; with few frames chance may leave some out."""
        used = set(self._row_of.values())
        return {speaker: row for row, speaker in enumerate(self.speakers, start=1) if row in used}

    @property
    def key(self) -> str:
        """Changes when utterances, speakers or what was drawn before training do."""
        return digest({name: torch.tensor(row) for name, row in self._row_of.items()})

    def rows(self, utterances: Sequence[str], random: torch.Generator) -> Tensor:
        """(B,) the rows of examples of these utterances, some of them drawn to be row 0."""
        rows = torch.tensor([self._row_of[name] for name in utterances], dtype=torch.int64)
        if self.routing is Routing.frame:
            rows[torch.rand(len(rows), generator=random) < self.share] = SPEAKER_INDEPENDENT
        return rows

    def _thinned(self, row_of: Mapping[str, int], random: torch.Generator) -> dict[str, int]:
        drawn = torch.rand(len(row_of), generator=random) < self.share
        return {
            name: SPEAKER_INDEPENDENT if is_drawn else row
            for (name, row), is_drawn in zip(row_of.items(), drawn.tolist(), strict=True)
        }


class SpeakerAdaptiveTraining:
    """The scales of the training speakers, beside the training of a network whose minibatches name their utterances.

    It knows no corpus and no network: the training loop takes it for whatever changes a network from example to
    example and learns along (`lhuc_asr.training.tasks.conditioning.Conditioning`).

    Args:
        table: of the speakers, all at the identity.
        routing: which row an example takes.
        config: how the table learns.
        momentum: of the optimiser of the weights, which Adam shares.
    """

    def __init__(self, table: ScaleTable, routing: SpeakerRouting, config: SatConfig, *, momentum: float = 0.9) -> None:
        self.table, self.routing, self.config = table, routing, config
        is_adam = config.update is RowUpdateKind.adam
        self._update: RowUpdate = RowAdam(table.r, beta1=momentum) if is_adam else RowSgd()

    def rows(self, utterances: Sequence[str], random: torch.Generator) -> Tensor:
        """(B,) rows of the examples of a minibatch."""
        return self.routing.rows(utterances, random)

    @contextmanager
    def attached(self, network: nn.Module) -> Iterator[nn.Module]:
        """Let row 0 act inside the block, and inside `given` the rows of a minibatch."""
        with self.table.attached(network):
            yield network

    def given(self, rows: Tensor) -> AbstractContextManager[None]:
        """Let the network compute with these rows inside the block."""
        return self.table.given(rows)

    def step(self, lr: float, factor: float = 1.0) -> None:
        """Change the rows that were touched since the last step; gradients are multiplied by the factor before."""
        found = self.table.take_gradients()
        if found is not None and not self.config.learn_independent:
            found = _of_speakers(found)
        if found is not None and len(found.rows):
            found.gradients.mul_(factor)
            self._update.step(self.table.r, found, lr * self.config.lr_factor)

    def state(self) -> dict[str, Tensor]:
        """What is learnt."""
        return {"r": self.table.r}

    def memory(self) -> dict[str, Tensor]:
        """What is remembered from step to step."""
        return self._update.memory()

    def restore(self, state: Mapping[str, Tensor], memory: Mapping[str, Tensor] | None = None) -> None:
        """Take over what `state` and `memory` gave."""
        self.table.r.copy_(state["r"])
        if memory is not None:
            self._update.restore(memory)

    def forget(self) -> None:
        """Begin with a fresh memory."""
        self._update.forget()

    def identity(self) -> dict[str, Any]:
        """JSON values that must be the same for a run to be the same run."""
        config = self.config
        return {
            "share": config.share,
            "routing": config.routing.name,
            "learn_independent": config.learn_independent,
            "amplitude": config.amplitude.name,
            "sites": [site.name for site in self.table.sites],
            "update": config.update.name if config.update else None,
            "lr_factor": config.lr_factor,
            "rows": self.routing.key,
        }


def _of_speakers(found: RowGradients) -> RowGradients:
    kept = found.rows != SPEAKER_INDEPENDENT
    return RowGradients(found.rows[kept], found.gradients[kept])
