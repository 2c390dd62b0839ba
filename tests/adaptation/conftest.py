"""The systems that several files of this room adapt."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.tiny_recogniser import LEXICON, recogniser, trained
from helpers.toy_session import System
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.hmm.states.model import HmmModel
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models.dnn import Dnn, DnnConfig


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A tiny network that hears three phones."""
    hmm = HmmModel.monophone(("SIL", "SPN", "A"))
    network = Dnn(DnnConfig(num_layers=2, hidden_dim=7, context=1), feat_dim=4, num_outputs=hmm.num_pdfs)
    graph = tmp_path / "model" / "HCLG.fst"
    graph.parent.mkdir()
    graph.write_bytes(b"graph")
    return System(
        network=network.requires_grad_(False).eval(),
        log_prior=torch.full((hmm.num_pdfs,), -np.log(hmm.num_pdfs), dtype=torch.float32),
        hmm=hmm,
        lexicon=Lexicon({"A": (("A",),)}),
        decoding=DecodingConfig(),
        features=SimpleNamespace(dim=4, frame_shift_ms=10.0),
        fingerprint="f" * 64,
        graph_path=graph,
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recogniser, made once."""
    hmm = HmmModel.monophone(LEXICON.phones, loop_probability=0.5)
    return recogniser(tmp_path_factory.mktemp("model"), trained(hmm), hmm).directory
