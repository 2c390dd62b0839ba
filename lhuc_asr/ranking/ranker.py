"""Ranking models: a DNN on embeddings, PPNet with a personal gate on its layers, PEPNet with one of the domain too.

Shape suffixes: B impressions, S id features, E width of what the towers get, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lhuc_asr.lhuc.gate import Gate
from lhuc_asr.ranking.embedding import Embeddings
from lhuc_asr.ranking.encoding import Encoder, Impressions
from lhuc_asr.ranking.ranker_config import RankerConfig
from lhuc_asr.ranking.tower import Tower

IDS, REST, ALL = "ids", "rest", "all"


class Ranker(nn.Module):
    """One tower for each task over shared embeddings, scaled by gates or plain, as the configuration says.

    The personal gate sees the embeddings of who and what, which are tables of its own, and beside them what the towers
    get; the gradient goes through the former alone, so that the shared embeddings learn from the towers only.

    When not to use gates: where few impressions come from each user. Then ids teach a gate little but noise, and a DNN
    with features that describe users is as good.

    Args:
        encoder: tells features and sizes of tables.
        config: which model, and its sizes.
        deferred: give tables no memory yet; they are to be divided (`lhuc_asr.ranking.sharding`).

    Raises:
        ConfigError: the configuration names a feature that there is not, or wants a domain gate for one domain.

    Example:
        >>> import numpy as np
        >>> from lhuc_asr.ranking.schema import ClickLog
        >>> log = ClickLog(np.array([7, 8]), np.array([1, 2]), np.zeros(2, int), {"click": np.array([0.0, 1.0])})
        >>> encoder = Encoder.of(log)
        >>> Ranker(encoder)(encoder.encode(log)).shape
        torch.Size([2, 1])

    Source: PPNet as Kuaishou described it in 2021; PEPNet, EPNet and Gate NU: Chang et al. 2023 (arXiv:2302.01115).
    """

    def __init__(self, encoder: Encoder, config: RankerConfig | None = None, *, deferred: bool = False) -> None:
        super().__init__()
        self.config = config or RankerConfig()
        self.tasks, chosen = encoder.schema.tasks, self.config.chosen(encoder)
        embeddings = partial(Embeddings, encoder.num_rows, dim=self.config.embedding_dim, deferred=deferred)
        self.shared = embeddings(chosen.shared)
        width = self.shared.width + len(encoder.schema.dense)
        self.places = self.config.gated_places
        if self.config.kind.has_domain_gate:
            self.domain_ids = embeddings(chosen.domain)
            self.domain_gate = self._gate({ALL: width}, self.domain_ids.width, width)
        if self.config.kind.has_personal_gate:
            self.personal_ids = embeddings(chosen.personal)
            widths = [width, *self.config.hidden_dims]
            units = {str(place): (len(self.tasks), widths[place]) for place in self.places}
            self.personal_gate = self._gate(units, self.personal_ids.width, width)
        self.towers = nn.ModuleList(Tower(width, self.config.hidden_dims) for _ in self.tasks)

    def forward(self, batch: Impressions) -> Tensor:
        """(B, T) logits of the labels."""
        x_BE = torch.cat([self.shared(batch.rows_NS), batch.dense_ND], dim=-1)
        if self.config.kind.has_domain_gate:
            x_BE = x_BE * self.domain_gate({IDS: self.domain_ids(batch.rows_NS), REST: x_BE})[ALL]
        scales = self.personal_scales(batch, x_BE)
        logits = [
            tower(x_BE, {place: scale_BTH[:, task] for place, scale_BTH in scales.items()})
            for task, tower in enumerate(self.towers)
        ]
        return torch.stack(logits, dim=-1)

    def personal_scales(self, batch: Impressions, x_BE: Tensor) -> Mapping[int, Tensor]:
        """Place -> (B, T, H) factors of every task's tower there; none without a personal gate."""
        if not self.config.kind.has_personal_gate:
            return {}
        scales = self.personal_gate({IDS: self.personal_ids(batch.rows_NS), REST: x_BE})
        return {place: scales[str(place)] for place in self.places}

    def tables(self) -> list[nn.Parameter]:
        """The parameters that grow with the number of ids."""
        return [
            parameter for part in self.modules() if isinstance(part, nn.Embedding) for parameter in part.parameters()
        ]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters."""
        tables = {id(table) for table in self.tables()}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def _gate(self, units: Mapping[str, int | tuple[int, ...]], ids_width: int, rest_width: int) -> Gate:
        stopped = [REST] if self.config.stop_gradient else []
        return Gate(units, {IDS: ids_width, REST: rest_width}, self.config.gate, stopped=stopped)
