"""The textbook's LHUC on a toy: an MLP that tells two moons apart, fitted to one person whose moons lie otherwise.

    python recipes/toy/two_moons.py --out recipes/toy/exp

A net learns two classes from the points of many people, each of whom turns and stretches the moons a little. Then a new
person comes, who turns and stretches them more. With 40 labelled points of that person one scale for each hidden unit
is learnt (the amplitude is the scale itself, as in the textbook); the weights stay as they are. The script prints how
many other points of that person are told apart before and after, and draws where the net divides the plane.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lhuc_asr.errors import LhucError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.scoring.style import BETTER, FILL, LINES, WORSE, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Person:
    """How somebody's moons lie: turned by an angle (radians), stretched along both axes."""

    angle: float
    stretch: tuple[float, float]

    def points(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(N, 2) points and (N,) classes."""
        label = rng.integers(0, 2, count)
        along = rng.uniform(0, np.pi, count)
        upper = np.stack([np.cos(along), np.sin(along)], axis=1)
        moons = np.where(label[:, None] == 0, upper, np.array([1.0, 0.5]) - upper) - np.array([0.5, 0.25])
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        turned = (moons * np.array(self.stretch)) @ np.array([[cosine, sine], [-sine, cosine]])
        noisy = turned + rng.normal(0, 0.1, turned.shape)
        return torch.from_numpy(noisy.astype(np.float32)), torch.from_numpy(label)


NEW = Person(angle=0.9, stretch=(1.0, 1.5))


def people(count: int, rng: np.random.Generator) -> list[Person]:
    """Those whom the net learns from."""
    return [Person(rng.normal(0, 0.2), (rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2))) for _ in range(count)]


def learn(net: nn.Module, parameters: list[nn.Parameter], x: Tensor, label: Tensor, *, lr: float, steps: int) -> None:
    """Follow the gradient of the cross-entropy."""
    optimiser = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(net(x), label).backward()
        optimiser.step()


def accuracy(net: nn.Module, x: Tensor, label: Tensor) -> float:
    """Share of points that are told right."""
    with torch.no_grad():
        return float((net(x).argmax(dim=1) == label).float().mean())


def main(argv: Sequence[str] | None = None) -> int:
    """Train, adapt, tell, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="where two_moons.png goes")
    parser.add_argument(
        "--points", metavar="N", type=int, default=40, help="labelled points of the person; default: 40"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="default: 0")
    arguments = parser.parse_args(argv)
    if arguments.points < 1:
        parser.error(f"--points must be 1 or more, got {arguments.points}")
    try:
        compare(arguments.out, num_points=arguments.points, seed=arguments.seed)
    except LhucError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    return 0


def compare(out: Path, *, num_points: int, seed: int) -> None:
    """Both nets on one person."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    parts = [person.points(100, rng) for person in people(20, rng)]
    x, label = (torch.cat(columns) for columns in zip(*parts, strict=True))
    learn(net, list(net.parameters()), x, label, lr=0.01, steps=300)

    mine, others = NEW.points(num_points, rng), NEW.points(2000, rng)
    adapter = LhucAdapter.identity(net.requires_grad_(False), find_sites(net, ["1", "3"]), "identity")
    with adapter.attached(net):
        learn(net, adapter.parameters(), *mine, lr=0.03, steps=100)

    before = accuracy(net, *others)
    with adapter.attached(net):
        after = accuracy(net, *others)
    print(f"{num_points} points of a new person, {adapter.num_parameters} scales: {before:.1%} -> {after:.1%} right")
    draw(out / "two_moons.png", net, adapter, mine, others, (before, after))


def draw(
    path: Path,
    net: nn.Module,
    adapter: LhucAdapter,
    mine: tuple[Tensor, Tensor],
    others: tuple[Tensor, Tensor],
    rates: tuple[float, float],
) -> None:
    """Where the plane is divided before and after, and the scales that do it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with png(path, width=11.5, height=3.9) as figure:
        left, middle, right = figure.subplots(1, 3)
        _plane(left, net, mine, others)
        left.set_title(f"the net of everybody: {rates[0]:.1%}")
        with adapter.attached(net):
            _plane(middle, net, mine, others)
        middle.set_title(f"with one person's scales: {rates[1]:.1%}")
        for number, (scale, colour) in enumerate(zip(adapter.scales().values(), LINES, strict=False), start=1):
            right.plot(sorted(scale.tolist()), color=colour, label=f"layer {number}")
        right.set(title="the scales, in order", xlabel="hidden unit", ylabel="scale")
        right.legend(frameon=False)


def _plane(axes: Axes, net: nn.Module, mine: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]) -> None:
    colours = np.array([FILL, WORSE])
    side = torch.linspace(-2.2, 2.2, 120)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        surface = net(grid).softmax(dim=1)[:, 1].reshape(120, 120).T
    axes.contourf(side, side, surface, levels=[0, 0.5, 1], colors=[FILL, WORSE], alpha=0.15)
    axes.scatter(*others[0][:300].T, c=colours[others[1][:300]], s=5, alpha=0.5, linewidths=0)
    axes.scatter(*mine[0].T, c=colours[mine[1]], s=28, edgecolors=BETTER, linewidths=1.2)
    axes.set(xticks=[], yticks=[], aspect="equal")


if __name__ == "__main__":
    sys.exit(main())
