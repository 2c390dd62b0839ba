"""Choosing acoustic scale and insertion penalty on development speech."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from lhuc_asr.decoding.beam_search import LogLikes
from lhuc_asr.decoding.lattices.reading import HypothesisKind
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import ConfigError, DecodingError
from lhuc_asr.parallel import map_in_processes
from lhuc_asr.progress import track

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class TuningConfig:
    """The grid of settings to try.

    Attributes:
        acoustic_scales: values of ``decoding.acoustic_scale``.
        insertion_penalties: values of ``decoding.insertion_penalty``.
    """

    acoustic_scales: list[float] = field(default_factory=lambda: [0.06, 0.08, 0.1, 0.13])
    insertion_penalties: list[float] = field(default_factory=lambda: [-0.5, 0.0, 0.5])

    def __post_init__(self) -> None:
        if not self.acoustic_scales or not self.insertion_penalties:
            raise ConfigError("the grid needs at least one acoustic scale and one insertion penalty")


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One setting and how well it did.

    Attributes:
        config: the setting.
        error_rate: in percent.
        num_failed: utterances without any path; they counted as empty.
    """

    config: DecodingConfig
    error_rate: float
    num_failed: int


@dataclass(frozen=True, slots=True)
class TuningReport:
    """All settings that were tried, in the order of the grid."""

    points: tuple[GridPoint, ...]

    @property
    def best(self) -> DecodingConfig:
        """The setting with the lowest error rate; of equals the one with the smallest penalty, then the first."""
        return min(self.points, key=lambda point: (point.error_rate, abs(point.config.insertion_penalty))).config

    def __str__(self) -> str:
        """Error rates as a table: acoustic scales down, insertion penalties across, the best with a star."""
        penalties = list(dict.fromkeys(point.config.insertion_penalty for point in self.points))
        rows = ["scale \\ penalty" + "".join(f"{penalty:>9g} " for penalty in penalties)]
        for scale in dict.fromkeys(point.config.acoustic_scale for point in self.points):
            cells = (point for point in self.points if point.config.acoustic_scale == scale)
            rows.append(
                f"{scale:>15g}"
                + "".join(f"{point.error_rate:>9.2f}{'*' if point.config is self.best else ' '}" for point in cells)
            )
        return "\n".join(row.rstrip() for row in rows)


def tune(
    decoder: WfstDecoder,
    items: Iterable[tuple[str, LogLikes]],
    error_rate: Callable[[Mapping[str, str]], float],
    config: TuningConfig,
    *,
    num_jobs: int = 1,
    num_utterances: int | None = None,
) -> TuningReport:
    """Decode development speech with every setting of a grid.

    Best paths are compared, whatever ``decoding.hypothesis`` is, because lattices of every setting would take too long.
    Each utterance's log-likelihoods are computed once and decoded with all settings before they are dropped, and the
    graph was read once, so neither memory nor disk has to hold the log-likelihoods of a corpus.

    Args:
        decoder: with the settings that are not tuned.
        items: utterance id and (T, P) log-likelihoods; may be a generator. Never test speech.
        error_rate: utterance id -> words, to an error rate in percent.
        config: the grid.
        num_jobs: processes.
        num_utterances: how many items there are, for the progress bar.
    """
    decoders = _decoders(decoder, config)

    def decode_with_all(item: tuple[str, LogLikes]) -> tuple[str, list[str | None]]:
        return item[0], [_text(each, *item) for each in decoders]

    texts: dict[str, list[str | None]] = {}
    results = map_in_processes(decode_with_all, items, num_jobs=num_jobs)
    for utterance, row in track(results, f"tuning {len(decoders)} settings", total=num_utterances):
        texts[utterance] = row
    points = []
    for column, each in enumerate(decoders):
        heard = {utterance: row[column] for utterance, row in texts.items()}
        rate = error_rate({utterance: text or "" for utterance, text in heard.items()})
        setting = replace(each.config, hypothesis=decoder.config.hypothesis)
        points.append(GridPoint(setting, rate, sum(text is None for text in heard.values())))
    report = TuningReport(tuple(points))
    _warn(report, config)
    return report


def _decoders(decoder: WfstDecoder, config: TuningConfig) -> list[WfstDecoder]:
    """One decoder for every setting; those with the same penalty share a graph."""
    quick = replace(decoder.config, hypothesis=HypothesisKind.one_best)
    with_penalty = [
        decoder.with_config(replace(quick, insertion_penalty=penalty)) for penalty in config.insertion_penalties
    ]
    return [
        each.with_config(replace(each.config, acoustic_scale=scale))
        for scale in config.acoustic_scales
        for each in with_penalty
    ]


def _text(decoder: WfstDecoder, utterance: str, log_likes: LogLikes) -> str | None:
    try:
        return decoder.decode(utterance, log_likes).text
    except DecodingError:
        return None


def _warn(report: TuningReport, config: TuningConfig) -> None:
    """Say so when utterances had no path, or when a better setting may lie beyond the grid."""
    failed = sum(point.num_failed for point in report.points)
    if failed:
        logger.warning("%d searches found no path during tuning; they counted as empty", failed)
    for name, values in (
        ("acoustic_scale", config.acoustic_scales),
        ("insertion_penalty", config.insertion_penalties),
    ):
        if len(values) > 1 and getattr(report.best, name) in (min(values), max(values)):
            logger.warning("the best decoding.%s, %g, lies at the edge of the grid", name, getattr(report.best, name))
