"""Annealed dropout: it falls from epoch to epoch, so that units learn to do alone first, and then to work together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lhuc_asr.errors import ConfigError
from lhuc_asr.models.tdnnf import SharedDropout

logger = logging.getLogger(__name__)

_RATES: dict[type[nn.Module], str] = {nn.Dropout: "p", SharedDropout: "alpha"}
"""Kinds of dropout, and the attribute that says how much of it there is."""


def share_left(epoch: int, num_epochs: int) -> float:
    """What is left of a network's dropout in an epoch; it falls evenly and is gone after so many epochs.

    Args:
        epoch: from 0.
        num_epochs: at least 1.

    Example:
        >>> [share_left(epoch, 4) for epoch in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Source: Rennie, Goel & Thomas 2014 ("Annealed dropout training of deep networks"), the linear schedule.
    """
    return max(0.0, 1.0 - epoch / num_epochs)


class DropoutAnnealing:
    """Lowers every dropout of a network, each from the rate that it was built with.

    It remembers nothing but these rates, so that a run may be taken up again in any epoch.

    Attributes:
        num_epochs: after which the network has no dropout; 0 leaves it as it is.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.4))
        >>> annealing = DropoutAnnealing(network, num_epochs=10)
        >>> with annealing.in_epoch(5):
        ...     network[1].p
        0.2
        >>> network[1].p
        0.4
    """

    def __init__(self, network: nn.Module, *, num_epochs: int) -> None:
        """Note the rates; nothing is changed yet.

        Raises:
            ConfigError: there is no dropout that could fall.
        """
        self.num_epochs = num_epochs
        dropouts = [module for module in network.modules() if type(module) in _RATES]
        self._rates = [(module, float(getattr(module, _RATES[type(module)]))) for module in dropouts]
        if num_epochs and not any(rate for _, rate in self._rates):
            raise ConfigError(
                f"training.annealed_epochs={num_epochs} lets dropout fall, and the network has none to begin with; "
                "set model.dropout (of a tdnnf model.shared_dropout) too"
            )

    @contextmanager
    def in_epoch(self, epoch: int) -> Iterator[None]:
        """Open the block in which the rates are those of an epoch, from 0; afterwards they are as before."""
        if not self.num_epochs:
            yield
            return
        share = share_left(epoch, self.num_epochs)
        logger.info("epoch %d has %.0f %% of the network's dropout", epoch + 1, 100 * share)
        self._set(share)
        try:
            yield
        finally:
            self._set(1.0)

    def _set(self, share: float) -> None:
        for module, rate in self._rates:
            setattr(module, _RATES[type(module)], rate * share)
