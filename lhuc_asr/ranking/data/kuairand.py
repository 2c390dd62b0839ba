"""KuaiRand: what a video app showed and what people did, in three sizes (Pure, 1K, 27K) of one layout.

The standard log is read, not the one of videos shown at random. Left out as well is all that was known only after a
video was shown (play time, stay times), and the table of statistics, which counts over the whole month and so tells of
the test days.

Source: Gao et al. 2022, https://kuairand.com.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.data.tables import num_absent, read_numbers, read_words, trait_ids, whole_numbers
from lhuc_asr.ranking.data.timed import TimedLog
from lhuc_asr.ranking.schema import ClickLog, Ids

_log = logging.getLogger(__name__)

TASKS = {"click": "is_click", "like": "is_like", "follow": "is_follow", "long_view": "long_view"}
"""Task -> its column."""

USER_TRAITS = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{place}" for place in range(18)),
)
VIDEO_TRAITS = ("author_id", "video_type", "upload_type", "music_type", "tag")
_WHOLE = ("user_id", "video_id", "time_ms", "hourmin", "tab", *TASKS.values())


def read_kuairand(root: Path) -> TimedLog:
    """Read KuaiRand in any of its sizes; the domain is the tab of the app.

    Args:
        root: folder with ``log_standard_*.csv``, ``user_features_*.csv`` and ``video_features_basic_*.csv``, or the
            one above, where these lie in ``data``.

    Raises:
        DataError: files or columns are missing, sizes are mixed, or a field cannot be read.
    """
    folder = root / "data" if (root / "data").is_dir() else root
    logs = [_read_log(path) for path in _files(folder, "log_standard_*.csv")]
    columns = {name: np.concatenate([log[name] for log in logs]) for name in logs[0]}
    users = _read_traits(folder, "user_features_*.csv", USER_TRAITS, "user_id", columns["user_id"])
    videos = _read_traits(folder, "video_features_basic_*.csv", VIDEO_TRAITS, "video_id", columns["video_id"])
    log = ClickLog(
        user_id=columns["user_id"].astype(np.int64),
        item_id=columns["video_id"].astype(np.int64),
        domain=columns["tab"].astype(np.int64),
        labels={task: columns[column].astype(np.float32) for task, column in TASKS.items()},
        sparse={**videos, **users, "hour": columns["hourmin"].astype(np.int64) // 100},
        dense={"log_duration": np.log1p(columns["duration_ms"] / 1000).astype(np.float32)},
    )
    return TimedLog(log, columns["time_ms"].astype(np.int64))


def _read_log(path: Path) -> Mapping[str, np.ndarray]:
    columns = read_numbers(path, [*_WHOLE, "duration_ms"])
    return {name: whole_numbers(column, name, path) if name in _WHOLE else column for name, column in columns.items()}


def _read_traits(folder: Path, pattern: str, names: tuple[str, ...], key: str, keys: Ids) -> dict[str, Ids]:
    paths = _files(folder, pattern)
    if len(paths) > 1:
        found = ", ".join(path.name for path in paths)
        raise DataError(f"'{folder}' has several sizes of KuaiRand ({found}): point to a folder with one")
    table = read_words(paths[0], names, key=key)
    if count := num_absent(table, keys):
        _log.warning("'%s' lacks %d ids of the log: their traits are unknown ids", paths[0], count)
    return trait_ids(table, keys, names)


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        beside = sorted(path.name for path in folder.glob("*"))[:8] if folder.is_dir() else []
        raise DataError(f"there is no {pattern} in '{folder}'; it has: {', '.join(beside) or 'nothing'}")
    return found
