"""All settings of learning how to adapt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lhuc_asr.ranges import require_at_least, require_finite, require_positive
from lhuc_asr.units import Seconds


class Order(Enum):
    """Derivatives through the steps of adaptation: ``second`` order is exact; ``first`` takes every slope of these
    steps for a constant, in about half the time and memory.
    """

    first = "first"
    second = "second"


class Speeds(Enum):
    """Which lengths of steps are learnt: ``fixed`` none, one for each ``layer``, or one for each ``unit``."""

    fixed = "fixed"
    layer = "layer"
    unit = "unit"


@dataclass(kw_only=True, slots=True)
class MetalearnConfig:
    """How a start and the speeds of adaptation are learnt.

    Attributes:
        lr: step of adaptation, plain gradient descent on the mean cross-entropy of all of its frames; learnt speeds
            say how many times as long steps are.
        num_steps: steps of adaptation.
        adapt_seconds: of a speaker's speech, drawn anew each time, to adapt on; never more than half of the utterances.
        test_seconds: of the speaker's other utterances, on which the adapted scales are judged.
        order: of the derivatives.
        speeds: which are learnt.
        outer_lr: of Adam, which moves start and logarithms of speeds.
        speakers_per_step: of Adam, over whom its gradient is a mean.
        num_epochs: each meets every speaker once; held-out speakers choose the best, which may be none.

    Source: Klejch, Fainberg & Bell 2018 (arXiv:1808.10239); Klejch, Fainberg, Bell & Renals 2019 (arXiv:1910.10605):
    three steps, learning rates by group of parameters. The lr is that of `lhuc-adapt`.
    """

    lr: float = 0.8
    num_steps: int = 3
    adapt_seconds: Seconds = 10.0
    test_seconds: Seconds = 10.0
    order: Order = Order.second
    speeds: Speeds = Speeds.layer
    outer_lr: float = 0.01
    speakers_per_step: int = 4
    num_epochs: int = 10

    def __post_init__(self) -> None:
        require_positive(self, "metalearn", "lr", "adapt_seconds", "test_seconds", "outer_lr")
        require_finite(self, "metalearn", "lr", "adapt_seconds", "test_seconds", "outer_lr")
        require_at_least(1, self, "metalearn", "num_steps", "speakers_per_step")
        require_at_least(0, self, "metalearn", "num_epochs")
