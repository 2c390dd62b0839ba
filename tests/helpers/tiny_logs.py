"""A made-up click log with personal tastes, small enough for a test."""

from __future__ import annotations

import numpy as np

from lhuc_asr.ranking.schema import ClickLog


def tiny_log(
    num_rows: int = 400, *, num_users: int = 12, seed: int = 0, tasks: tuple[str, ...] = ("click",)
) -> ClickLog:
    """Every user likes or dislikes each of three kinds of items; domain 1 is readier to click."""
    rng = np.random.default_rng(seed)
    taste = np.random.default_rng(99).choice([-2.0, 2.0], size=(num_users, 3))
    user, item, domain = (
        rng.integers(0, num_users, num_rows),
        rng.integers(0, 9, num_rows),
        rng.integers(0, 2, num_rows),
    )
    chance = 1 / (1 + np.exp(-(taste[user, item % 3] + 0.5 * domain)))
    labels = {task: (rng.random(num_rows) < chance).astype(np.float32) for task in tasks}
    return ClickLog(
        user_id=user * 1000 + 7,
        item_id=item + 50,
        domain=domain,
        labels=labels,
        sparse={"author_id": item % 4, "kind": item % 3},
        dense={"hour": rng.normal(12, 3, num_rows).astype(np.float32)},
        chances={task: chance.astype(np.float32) for task in tasks},
    )
