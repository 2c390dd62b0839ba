"""Tuning finds the best corner of the grid and computes log-likelihoods once."""

from __future__ import annotations

import logging

import pytest

from lhuc_asr.decoding.lattices.reading import HypothesisKind
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.decoding.tuning import TuningConfig, tune
from lhuc_asr.decoding.wfst import WfstDecoder
from lhuc_asr.errors import ConfigError


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_grid(toy, tmp_path, num_jobs, caplog):
    decoder = WfstDecoder(toy.write_graph(tmp_path / "HCLG.fst"), toy.HMM, toy.LEXICON, DecodingConfig(beam=100.0))
    asked = []

    def items():
        for number in range(4):
            asked.append(number)
            yield f"u{number}", toy.log_likes_of(toy.path_of(("A", 4), ("B", 3), ("SIL", 3)), contrast=20.0)

    def error_rate(texts):
        assert sorted(texts) == ["u0", "u1", "u2", "u3"]
        return 100.0 * sum(text != "AB" for text in texts.values()) / len(texts)

    config = TuningConfig(acoustic_scales=[0.001, 0.1, 0.2], insertion_penalties=[50.0, 0.0])
    with caplog.at_level(logging.WARNING):
        report = tune(decoder, items(), error_rate, config, num_jobs=num_jobs)
    assert asked == [0, 1, 2, 3]
    assert len(report.points) == 6
    assert report.best == DecodingConfig(acoustic_scale=0.1, insertion_penalty=0.0, beam=100.0)
    settings = [(point.config.acoustic_scale, point.config.insertion_penalty) for point in report.points]
    assert settings[:3] == [(0.001, 50.0), (0.001, 0.0), (0.1, 50.0)]
    assert str(report).count("*") == 1
    assert "insertion_penalty, 0, lies at the edge" in caplog.text


def test_an_utterance_without_a_path_counts_as_empty_and_is_told(toy, tmp_path, caplog):
    decoder = WfstDecoder(toy.write_graph(tmp_path / "HCLG.fst"), toy.HMM, toy.LEXICON, DecodingConfig())
    scores = toy.log_likes_of(toy.path_of(("A", 4)))
    config = TuningConfig(acoustic_scales=[0.1], insertion_penalties=[0.0])
    seen = {}
    report = tune(decoder, [("good", scores), ("empty", scores[:0])], lambda texts: seen.update(texts) or 0.0, config)
    assert seen == {"good": "A", "empty": ""}
    assert report.points[0].num_failed == 1
    assert "no path" in caplog.text


def test_best_paths_are_compared_and_the_kind_of_hypothesis_is_kept(toy, tmp_path, monkeypatch):
    asked = DecodingConfig(hypothesis=HypothesisKind.mbr)
    decoder = WfstDecoder(toy.write_graph(tmp_path / "HCLG.fst"), toy.HMM, toy.LEXICON, asked)
    monkeypatch.setattr(WfstDecoder, "lattice", None)
    grid = TuningConfig(acoustic_scales=[0.1], insertion_penalties=[0.0])
    report = tune(decoder, [("good", toy.log_likes_of(toy.path_of(("A", 4))))], lambda texts: 0.0, grid)
    assert report.best == asked
    assert str(report).count("*") == 1


def test_an_empty_grid_is_refused():
    with pytest.raises(ConfigError):
        TuningConfig(acoustic_scales=[])
