"""What a split log holds, as a table for people."""

from __future__ import annotations

import numpy as np

from lhuc_asr.ranking.data.timed import Split
from lhuc_asr.ranking.schema import ITEM, USER, ClickLog, Ids
from lhuc_asr.scoring.table import table


def split_text(split: Split) -> str:
    """A line for each part: impressions, users, items, those that training has not, shares of labels; then domains."""
    tasks = list(split.train.labels)
    titles = ["part", "impressions", "users", "unknown", "items", "unknown", *(f"{task} %" for task in tasks)]
    rows = [[name, *_cells(part, split.train)] for name, part in split.parts.items()]
    return f"{table([titles, *rows])}\n\n{_domain_text(split)}\n\n{_activity_text(split.train)}"


def _cells(part: ClickLog, train: ClickLog) -> list[str]:
    users, items = (_counts(part.ids[name], train.ids[name]) for name in (USER, ITEM))
    rates = [f"{100 * np.mean(label):.1f}" for label in part.labels.values()]
    return [str(len(part)), *users, *items, *rates]


def _counts(ids: Ids, known: Ids) -> list[str]:
    """How many different ids there are, and how many of them training has not."""
    found = np.unique(ids)
    return [str(len(found)), str(np.count_nonzero(~np.isin(found, known)))]


def _domain_text(split: Split) -> str:
    """Impressions of every domain in every part, also where a part has none."""
    domains = np.unique(np.concatenate([part.domain for part in split.parts.values()]))
    rows = [
        [name, *(str(np.count_nonzero(part.domain == domain)) for domain in domains)]
        for name, part in split.parts.items()
    ]
    return table([["impressions by domain", *map(str, domains.tolist())], *rows])


def _activity_text(train: ClickLog) -> str:
    counts = np.unique(train.user_id, return_counts=True)[1]
    low, middle, high = np.percentile(counts, [10, 50, 90])
    return (
        f"a user has {middle:.0f} impressions in train (median); a tenth has {low:.0f} or fewer, "
        f"a tenth {high:.0f} or more, the busiest {counts.max()}"
    )
