"""Criteria of whole utterances as objectives of scales: slopes, company, goals of what is believed, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from helpers.toy_utterances import ALIGNER, CHAIN, DIM, aligned, toy_utterances
from helpers.toy_whole import assert_same
from lhuc_asr.adaptation.keys import AdaptationSettings
from lhuc_asr.adaptation.objectives.utterance_objective import GroupUtterances, opened_utterance_objective
from lhuc_asr.adaptation.objectives.utterances import Piece, SpeakerUtterances
from lhuc_asr.adaptation.outcome import Updated
from lhuc_asr.adaptation.passes.protocol import ProtocolConfig
from lhuc_asr.adaptation.targets.config import Supervision, TargetConfig, Weighting
from lhuc_asr.adaptation.targets.criterion import AdaptCriterion, AdaptCriterionConfig, criterion_of
from lhuc_asr.adaptation.targets.making import TargetMaker
from lhuc_asr.adaptation.targets.sequence_criteria import (
    CtcOfBelieved,
    LfMmiOfBelieved,
    SmbrOfBelieved,
    segments_of_outputs,
)
from lhuc_asr.adaptation.targets.supervision import silence_share, targets_of_paths
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.adaptation.update.held_out import divide
from lhuc_asr.adaptation.update.report import UpdateReport
from lhuc_asr.adaptation.update.sweeps import adapt_group
from lhuc_asr.adaptation.updating import speech_of, update_speakers
from lhuc_asr.decoding.ctc_graph import ctc_hmm, transition_ids_of
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.lattices.posteriors import arc_posteriors, frame_posteriors
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.errors import AlignmentError, ConfigError, ModelError
from lhuc_asr.lhuc.adapter import LhucAdapter
from lhuc_asr.lhuc.example import Example
from lhuc_asr.lhuc.finding import find_sites
from lhuc_asr.lhuc.sites import LhucConfig
from lhuc_asr.models.network import AcousticNetwork
from lhuc_asr.models.tdnn import Tdnn, TdnnConfig
from lhuc_asr.system.trained_objective import TrainedObjective, write_objective
from lhuc_asr.training.criteria.criterion import CriterionKind
from lhuc_asr.training.criteria.lfmmi.forward_backward import numerator_occupancy

SPEECH = toy_utterances(6)
TRAINED = TrainedObjective.of_alignments(SPEECH.alignments, ALIGNER, CHAIN)
CTC = ctc_hmm(["<blank>", "A", "B", "C"], "SIL")
SCALE = 0.7
WHOLE = [CriterionKind.lfmmi, CriterionKind.ctc, CriterionKind.smbr]


def system_of(directory: Path, kind: CriterionKind = CriterionKind.lfmmi) -> Any:
    """As much of a model as a criterion asks for; scores where it was trained by LF-MMI."""
    write_objective(directory, TRAINED, fingerprint="f" * 64)
    return SimpleNamespace(
        directory=directory,
        hmm=CTC if kind is CriterionKind.ctc else CHAIN,
        log_prior=torch.zeros(4) if kind in (CriterionKind.lfmmi, CriterionKind.ctc) else TRAINED.log_prior,
        network=SimpleNamespace(subsampling=3),
        decoding=DecodingConfig(acoustic_scale=SCALE),
        fingerprint="f" * 64,
    )


def path_of(num_outputs: int, seed: int, hmm: Any = CHAIN) -> np.ndarray:
    """Silence, some phones, silence; or labels and blanks."""
    rng = np.random.default_rng(seed)
    if hmm is CTC:
        return transition_ids_of(np.where(rng.random(num_outputs) < 0.5, 0, rng.integers(1, 4, num_outputs)), CTC)
    inner = num_outputs // 2 - 2
    return aligned([1, *rng.integers(2, 5, inner), 1], [2] * (inner + 1) + [num_outputs - 2 * inner - 2], CHAIN)


def lattice_of(num_outputs: int, seed: int, outputs: np.ndarray | None = None) -> Lattice:
    """Two paths from start to end that meet in the middle, with acoustics of some outputs (T', V)."""
    rng = np.random.default_rng(seed)
    paths = [path_of(num_outputs, seed + 10 * way) for way in range(2)]
    nodes = np.arange(num_outputs + 1)
    number = np.stack([2 * nodes - 1, 2 * nodes])
    number[:, [0, num_outputs // 2, num_outputs]] = number[1, [0, num_outputs // 2, num_outputs]]
    rows = sorted((*number[way, t : t + 2], int(paths[way][t]), t) for way in range(2) for t in range(num_outputs))
    used = {node: place for place, node in enumerate(sorted({0, *(row[1] for row in rows)}))}
    source, target, ids, frame = (np.array(column) for column in zip(*rows, strict=True))
    outputs = rng.normal(size=(num_outputs, 4)) if outputs is None else outputs
    final = np.full(len(used), np.inf, np.float32)
    final[-1] = 0.5
    return Lattice(
        utterance="u",
        source=np.array([used[node] for node in source], np.int32),
        target=np.array([used[node] for node in target], np.int32),
        transition_id=ids.astype(np.int32),
        word=np.zeros(len(ids), np.int32),
        graph_cost=rng.exponential(size=len(ids)).astype(np.float32),
        acoustic_cost=(-SCALE * outputs[frame, CHAIN.pdfs(ids.astype(np.int32))]).astype(np.float32),
        final_cost=final,
        acoustic_scale=SCALE,
    )


def criterion(directory: Path, kind: CriterionKind, **settings: Any) -> AdaptCriterion:
    targets = TargetConfig(**{"supervision": Supervision.one_best, **settings.pop("targets", {})})
    return criterion_of(system_of(directory, kind), AdaptCriterionConfig(criterion=kind, **settings), targets)


def network_of(dtype: torch.dtype = torch.float32) -> AcousticNetwork:
    config = TdnnConfig(hidden_dim=7, dilations=[1, 3], subsampling=3)
    return Tdnn(config, DIM, 4, seed=1).to(dtype).requires_grad_(False).eval()


def speaker(found: AdaptCriterion, lengths: list[int], dtype: torch.dtype = torch.float32) -> SpeakerUtterances:
    """Frames, the states of a path as targets, and the goal of the path or of its lattice."""
    pieces, sequence = [], found.sequence
    assert sequence is not None
    for number, length in enumerate(lengths):
        num_outputs = -(-length // 3)
        hmm = CTC if isinstance(sequence, CtcOfBelieved) else CHAIN
        path = path_of(num_outputs, number, hmm)
        generator = torch.Generator().manual_seed(number)
        pieces.append(
            Piece(
                torch.randn(length, DIM, generator=generator).to(dtype),
                torch.from_numpy(hmm.pdfs(path).astype(np.int64)),
                utterance=f"u{number}",
                goal=sequence.goal(f"u{number}", path, lattice_of(num_outputs, number)),
            )
        )
    return SpeakerUtterances(tuple(pieces))


def sites_of(network: AcousticNetwork) -> Any:
    feats = torch.randn(2, 24, DIM, dtype=next(network.parameters()).dtype)
    return find_sites(network, list(network.adaptation_sites), example=Example((feats, torch.tensor([24, 17]))))


OBJECTIVES = [
    *((kind, {}) for kind in WHOLE),
    (CriterionKind.lfmmi, {"targets": {"supervision": Supervision.lattice}}),
    (CriterionKind.lfmmi, {"smoothing": 0.3}),
]


@pytest.mark.parametrize(("kind", "settings"), OBJECTIVES)
def test_slopes_of_scales_are_finite_differences(kind: CriterionKind, settings: Any, tmp_path: Path) -> None:
    found, network = criterion(tmp_path, kind, **settings), network_of(torch.float64)
    sites, rel = sites_of(network), 1e-2 if kind is CriterionKind.ctc else 1e-4  # torch's CTC is in single precision
    speakers = [speaker(found, lengths, torch.float64) for lengths in ([37, 61], [43])]
    group = GroupUtterances(speakers, torch.device("cpu"))
    (joint,) = group.minibatches({0: torch.arange(2), 1: torch.arange(1)}, 1000)
    batch = group.take(joint)
    generator = torch.Generator().manual_seed(3)
    factors = {site.name: torch.rand(2, site.num_units, generator=generator).double() + 0.5 for site in sites}
    with opened_utterance_objective(network, sites, found) as objective:
        _, slopes = objective.losses_and_gradients(batch, factors)
        for (name, values), slope in zip(factors.items(), slopes, strict=True):
            for speaker_and_unit in [(0, 0), (0, 3), (1, 2)]:
                step = torch.zeros_like(values)
                step[speaker_and_unit] = 1e-3
                up, down = (objective.losses(batch, {**factors, name: values + way * step}).sum() for way in (1, -1))
                assert float(slope[speaker_and_unit]) == pytest.approx(float(up - down) / 2e-3, rel=rel, abs=1e-6)


@pytest.mark.parametrize(("kind", "settings"), OBJECTIVES)
def test_everybody_learns_in_company_what_is_learnt_alone(kind: CriterionKind, settings: Any, tmp_path: Path) -> None:
    found, network = criterion(tmp_path, kind, **settings), network_of()
    speakers = [speaker(found, lengths) for lengths in ([37, 61, 40], [43])]
    sites, config = sites_of(network), AdaptConfig(lr=0.5, batch_size=25, num_epochs=3)
    together, alone = ([LhucAdapter.identity(network, sites) for _ in speakers] for _ in range(2))
    reports = adapt_group(network, together, speakers, config, criterion=found)
    for place, own in enumerate(speakers):
        (report,) = adapt_group(network, [alone[place]], [own], config, criterion=found)
        assert_same(together[place], alone[place])
        both = (reports[place], report)
        assert all(isinstance(one, UpdateReport) and one.objective_after < one.objective_before for one in both)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0])
def test_lattices_count_as_the_first_pass_weighs_them(scale: float, tmp_path: Path) -> None:
    """Forward-backward of the decoder's room is another implementation."""
    outputs = np.random.default_rng(5).normal(size=(12, 4))
    lattice = lattice_of(12, 2, outputs)
    found = criterion(
        tmp_path, CriterionKind.lfmmi, targets={"supervision": Supervision.lattice, "lattice_scale": scale}
    )
    assert isinstance(found.sequence, LfMmiOfBelieved)
    graph = found.sequence.goal("u", path_of(12, 2), lattice)
    occupancy = numerator_occupancy(torch.from_numpy(outputs)[None], torch.tensor([12]), [graph])
    arcs = arc_posteriors(lattice, acoustic_scale=scale or None)
    wanted = frame_posteriors(lattice, arcs, CHAIN.transitions.pdf_of, CHAIN.num_pdfs).dense()
    np.testing.assert_allclose(occupancy.posteriors[0], wanted, atol=1e-5)


def test_a_path_becomes_phones_at_their_outputs() -> None:
    path = aligned([1, 3, 2], [2, 1, 3], CHAIN)
    segments = segments_of_outputs(path, CHAIN, 3)
    assert (list(segments.phones), list(segments.starts), segments.num_outputs) == ([1, 3, 2], [0, 6, 9], 6)
    assert segments.windows(0) == ([0, 2, 3], [2, 3, 6])


def test_silence_is_counted_in_paths() -> None:
    paths = [aligned([1, 3, 1], [2, 3, 1], CHAIN), aligned([2], [4], CHAIN)]
    assert silence_share(paths, CHAIN) == pytest.approx(0.3)
    assert silence_share([], CHAIN) == 0


def test_labels_are_what_the_path_says() -> None:
    path = transition_ids_of(np.array([0, 1, 1, 0, 1, 3, 0], np.int32), CTC)
    assert CtcOfBelieved(CTC).goal("u", path, None).tolist() == [1, 1, 3]
    with pytest.raises(AlignmentError, match="nothing was recognised in utterance 'u'"):
        CtcOfBelieved(CTC).goal("u", transition_ids_of(np.zeros(4, np.int32), CTC), None)


def test_an_utterance_without_a_lattice_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reference has a path where the first pass found none."""
    system, found = system_of(tmp_path), criterion(tmp_path, CriterionKind.smbr)
    make = TargetMaker(system, AdaptConfig(criterion=CriterionKind.smbr), {}, criterion=found)
    paths = {"u": path_of(9, 0), "lost": path_of(9, 1)}
    made = make.with_goals(targets_of_paths(paths, {}, CHAIN), {"u": lattice_of(9, 0)})
    assert list(made.goals) == ["u"]
    assert "utterance 'lost' has no lattice: the first pass found no path; it is not learnt from" in caplog.text


def test_the_utterances_told_are_those_learnt_from_and_held_out(tmp_path: Path) -> None:
    """One of them has nothing to learn from: labels of a path that says nothing."""
    found, network = criterion(tmp_path, CriterionKind.ctc), network_of()
    paths = {f"u{number}": path_of(8 + number, number, CTC) for number in range(6)}
    paths["u2"] = transition_ids_of(np.zeros(10, np.int64), CTC)
    rng = np.random.default_rng(0)
    feats = {name: rng.normal(size=(3 * len(path), DIM)).astype(np.float32) for name, path in paths.items()}
    for seed in range(4):
        config = AdaptConfig(criterion=CriterionKind.ctc, held_out_share=0.3, lr=0.01, seed=seed)
        make = TargetMaker(system_of(tmp_path, CriterionKind.ctc), config, feats, criterion=found)
        targets = make.with_goals(targets_of_paths(paths, {}, CTC), {})
        settings = AdaptationSettings(lhuc=LhucConfig(), adapt=config, protocol=ProtocolConfig())
        learnt = update_speakers(
            network, sites_of(network), {"s": targets}, feats, settings=settings, num_jobs=1, criterion=found
        )
        ((_, outcome),) = learnt
        assert isinstance(outcome, Updated)
        speech = speech_of(targets, feats, network, whole=True)
        assert isinstance(speech, SpeakerUtterances)
        held_out = tuple(speech.pieces[place].utterance for place in divide(speech, 0.3, seed=seed).held_out.tolist())
        assert held_out and outcome.report.tested_on == held_out
        assert {*outcome.report.learnt_from, *held_out} == set(paths) - {"u2"}
        assert not {*outcome.report.learnt_from} & {*held_out}


def test_smbr_scores_as_the_search_does(tmp_path: Path) -> None:
    found = criterion(tmp_path, CriterionKind.smbr).sequence
    assert isinstance(found, SmbrOfBelieved)
    assert found.smbr.config.acoustic_scale == SCALE


@pytest.mark.parametrize(
    ("trained_by", "asked", "possible"),
    [
        (CriterionKind.smbr, CriterionKind.lfmmi, "gives posteriors; possible: smbr"),
        (CriterionKind.lfmmi, CriterionKind.ctc, "gives tied states; possible: smbr"),
        (CriterionKind.ctc, CriterionKind.lfmmi, "gives labels of CTC; possible: ctc"),
        (CriterionKind.ctc, CriterionKind.smbr, "gives labels of CTC; possible: ctc"),
    ],
)
def test_a_criterion_that_means_nothing_to_the_network_is_refused(
    trained_by: CriterionKind, asked: CriterionKind, possible: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"adapt.criterion={asked.name} needs .* {possible}"):
        criterion_of(system_of(tmp_path, trained_by), AdaptCriterionConfig(criterion=asked))


def test_lf_mmi_asks_for_its_denominator(tmp_path: Path) -> None:
    system = system_of(tmp_path)
    system.directory = tmp_path / "older"
    with pytest.raises(ModelError, match=r"has no objective\.json, and no alignments below work; run lhuc-train again"):
        criterion_of(system, AdaptCriterionConfig(criterion=CriterionKind.lfmmi))


def test_another_denominator_makes_other_profiles(tmp_path: Path) -> None:
    before = system_of(tmp_path)
    one = criterion(tmp_path, CriterionKind.lfmmi).identity()
    fewer = dict(list(SPEECH.alignments.items())[:3])
    write_objective(tmp_path, TrainedObjective.of_alignments(fewer, ALIGNER, CHAIN), fingerprint="f" * 64)
    system = SimpleNamespace(**{**vars(before), "directory": tmp_path})
    assert criterion_of(system, AdaptCriterionConfig(criterion=CriterionKind.lfmmi)).identity() != one  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"supervision": Supervision.n_best}, "cannot learn from adapt.supervision=n_best; possible: one_best, mbr, "),
        ({"supervision": Supervision.entropy}, "cannot learn from adapt.supervision=entropy"),
        ({"weights": Weighting.word}, "adapt.weights, adapt.min_confidence and adapt.only_agreed are for frames"),
        ({"min_confidence": 0.5}, "adapt.best_share chooses utterances"),
        ({"kl": 0.5}, "give adapt.smoothing"),
        ({"smoothing": 1.0}, r"adapt\.smoothing must lie in \[0, 1\), got 1.0"),
        ({"tolerance": -1}, "adapt.tolerance must be 0 or more, got -1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(kind: CriterionKind, settings: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        AdaptConfig(criterion=kind, **settings)


def test_frames_have_no_smoothing_and_lattices_are_kept_where_they_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"adapt\.smoothing is for criteria of whole utterances"):
        AdaptConfig(smoothing=0.1)
    kept = {kind: AdaptConfig(criterion=kind).keeps_lattices for kind in CriterionKind}
    assert [kind.name for kind, keeps in kept.items() if keeps] == ["smbr"]
    assert AdaptConfig(
        criterion=CriterionKind.lfmmi, supervision=Supervision.lattice, kl=0.5, smoothing=0.2
    ).keeps_lattices
    assert replace(TargetConfig(), best_share=0.5).weighs_frames is False
