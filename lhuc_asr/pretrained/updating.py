"""Unsupervised adaptation of one speaker, whatever the model: first pass, targets, a few epochs on r, second pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lhuc_asr.errors import ConfigError, SpeakerError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example, put_back


class Target(Protocol):
    """What one utterance is believed to say."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was recognised, so that nothing can be learnt."""

    @property
    def num_terms(self) -> int:
        """Terms of the utterance's loss: frames of its output, or tokens."""


T = TypeVar("T", bound=Target)


class Learner(Protocol[T]):
    """What the loop must know of a model; ``speech`` is whatever the model is fed, one utterance at a time."""

    @property
    def net(self) -> nn.Module:
        """The module that is called."""

    def example(self, speech: Tensor) -> Example:
        """A call of the whole net."""

    def recognise(self, speech: Tensor) -> T:
        """Decode, without gradients."""

    def loss(self, speech: Tensor, target: T) -> Tensor:
        """() loss of an utterance, summed over its terms."""


class Optimiser(Enum):
    """Adam, whose steps are about as long as the learning rate, or plain stochastic gradient descent."""

    adam = "adam"
    sgd = "sgd"


@dataclass(kw_only=True, slots=True)
class UpdateConfig:
    """How r is learnt; values that were not tuned on any real model.

    Attributes:
        num_epochs: passes over the speaker's utterances.
        lr: learning rate; with Adam, about the change of a parameter per update.
        optimiser: which one.
        batch_size: utterances for each update; they run through the net one by one, and nothing is padded.
        seed: of the order of utterances.
    """

    num_epochs: int = 3
    lr: float = 0.01
    optimiser: Optimiser = Optimiser.adam
    batch_size: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ConfigError(f"lr must be a positive number, got {self.lr}")
        if self.num_epochs < 1 or self.batch_size < 1:
            raise ConfigError(
                f"num_epochs and batch_size must be 1 or more, got {self.num_epochs} and {self.batch_size}"
            )


@dataclass(frozen=True)
class Adaptation(Generic[T]):
    """What happened to one speaker.

    Attributes:
        first_pass: utterance -> what was recognised before, the targets.
        second_pass: utterance -> what is recognised afterwards.
        objective_before: mean loss per term on the targets, at the start.
        objective_after: the same, at the end.
        per_epoch: mean loss per term of every epoch, measured on the way.
        num_updates: steps of the optimiser.
    """

    first_pass: Mapping[str, T]
    second_pass: Mapping[str, T]
    objective_before: float
    objective_after: float
    per_epoch: tuple[float, ...]
    num_updates: int

    @property
    def unused(self) -> tuple[str, ...]:
        """Utterances in which the first pass recognised nothing, from which nothing was learnt."""
        return tuple(name for name, target in self.first_pass.items() if target.is_empty)

    @property
    def silenced(self) -> tuple[str, ...]:
        """Utterances in which something was recognised before, and nothing is afterwards."""
        empty_after = {name for name, target in self.second_pass.items() if target.is_empty}
        return tuple(name for name, target in self.first_pass.items() if name in empty_after and not target.is_empty)

    @property
    def has_collapsed(self) -> bool:
        """Whether adaptation silenced the model on some utterance; such scales do harm and are not worth keeping."""
        return bool(self.silenced)

    def guard(self) -> dict[str, Any]:
        """The verdict for a profile, ready for JSON."""
        return {"passed": not self.has_collapsed, "silenced": [*self.silenced], "unused": [*self.unused]}


def adapt(
    learner: Learner[T], adapter: LhucAdapter, utterances: Mapping[str, Tensor], config: UpdateConfig | None = None
) -> Adaptation[T]:
    """Let a model learn one speaker's scales from what it recognises itself.

    The net runs in evaluation mode throughout (no dropout, no layer drop, no masking), its weights stay as they are,
    and gradients reach r only. Before anything else the sites are proved to act on the first utterance.

    Args:
        learner: the model, and what to learn from.
        adapter: what is trained, in place; the first pass is made with the scales that it has.
        utterances: name -> speech, all of one speaker.
        config: how.

    Raises:
        SpeakerError: there are no utterances, nothing was recognised in any of them, or the loss is not finite.
        SiteError: a site does not act.
    """
    if not utterances:
        raise SpeakerError("there are no utterances to adapt to")
    settings = config or UpdateConfig()
    with put_back(learner.net), _frozen(learner.net), adapter.attached(learner.net):
        learner.net.eval()
        with torch.no_grad():
            learner.example(next(iter(utterances.values()))).run(learner.net)
        first_pass = {name: learner.recognise(speech) for name, speech in utterances.items()}
        lessons = [
            _Lesson(name, utterances[name], target) for name, target in first_pass.items() if not target.is_empty
        ]
        if not lessons:
            raise SpeakerError(f"nothing was recognised in any of {len(utterances)} utterances: nothing to learn from")
        before = _objective(learner, lessons)
        per_epoch = _update(learner, adapter, lessons, settings)
        after = _objective(learner, lessons)
        second_pass = {name: learner.recognise(speech) for name, speech in utterances.items()}
    num_updates = settings.num_epochs * math.ceil(len(lessons) / settings.batch_size)
    return Adaptation(first_pass, second_pass, before, after, per_epoch, num_updates)


@dataclass(frozen=True)
class _Lesson(Generic[T]):
    name: str
    speech: Tensor
    target: T


def _update(
    learner: Learner[T], adapter: LhucAdapter, lessons: Sequence[_Lesson[T]], config: UpdateConfig
) -> tuple[float, ...]:
    kinds = {Optimiser.adam: torch.optim.Adam, Optimiser.sgd: torch.optim.SGD}
    optimiser = kinds[config.optimiser](adapter.parameters(), lr=config.lr)
    order = torch.Generator().manual_seed(config.seed)
    per_epoch = []
    for _ in range(config.num_epochs):
        shuffled = [lessons[place] for place in torch.randperm(len(lessons), generator=order).tolist()]
        total = 0.0
        for start in range(0, len(shuffled), config.batch_size):
            optimiser.zero_grad()
            total += _gradient(learner, shuffled[start : start + config.batch_size])
            optimiser.step()
        per_epoch.append(total / _num_terms(lessons))
    return tuple(per_epoch)


def _gradient(learner: Learner[T], batch: Sequence[_Lesson[T]]) -> float:
    """Add up the gradients of the mean loss per term; gives the sum of the losses."""
    num_terms, total = _num_terms(batch), 0.0
    for lesson in batch:
        loss = _loss(learner, lesson)
        (loss / num_terms).backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


@torch.no_grad()
def _objective(learner: Learner[T], lessons: Sequence[_Lesson[T]]) -> float:
    return sum(_loss(learner, lesson).item() for lesson in lessons) / _num_terms(lessons)


def _loss(learner: Learner[T], lesson: _Lesson[T]) -> Tensor:
    loss = learner.loss(lesson.speech, lesson.target)
    if not loss.isfinite():
        raise SpeakerError(f"the loss of utterance {lesson.name!r} is {loss.item()}; try a lower learning rate")
    return loss


def _num_terms(lessons: Sequence[_Lesson[T]]) -> int:
    return sum(lesson.target.num_terms for lesson in lessons)


@contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    """No weight takes a gradient inside the block."""
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
