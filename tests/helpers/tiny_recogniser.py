"""A tiny but real recogniser of four words, and people who speak them."""

from __future__ import annotations

import numpy as np
import torch

from lhuc_asr.adaptation.targets.config import Supervision
from lhuc_asr.adaptation.update.config import AdaptConfig
from lhuc_asr.data.manifest import Manifest, Recording, Utterance
from lhuc_asr.decoding.settings import DecodingConfig
from lhuc_asr.features.fbank import FbankConfig
from lhuc_asr.features.pipeline import FeatureConfig
from lhuc_asr.features.splicing import SplicedFrames
from lhuc_asr.hmm.graphs.graph import build_graph
from lhuc_asr.lang.kneser_ney import estimate_ngram
from lhuc_asr.lang.lexicon import Lexicon
from lhuc_asr.models.dnn import Dnn, DnnConfig
from lhuc_asr.system.model_directory import SystemParts, write_system

LEXICON = Lexicon(
    {"ONE": (("W", "AH", "N"),), "TWO": (("T", "UW"),), "NOT": (("N", "AH", "T"),), "WOO": (("W", "UW"),)}
)


WORDS = ("ONE", "TWO", "NOT", "WOO")


DIM = 8


MEANS = np.random.default_rng(5).normal(size=(100, DIM))


def speak(hmm, words, rng, *, accent=0.0):
    """Frames of a sentence: every tied state has its own mean; an accent moves all phones towards one direction."""
    phones = ["SIL", *(phone for word in words for phone in LEXICON.pronunciations_of(word)[0]), "SIL"]
    pdfs = [hmm.phones.index(phone) * 3 + state for phone in phones for state in range(3)]
    path = np.repeat(pdfs, rng.integers(1, 4, size=len(pdfs)))
    noise = rng.normal(size=(len(path), DIM)) * 0.9
    return (MEANS[path] * (1 - accent) + accent * MEANS[path][:, ::-1] + noise).astype(np.float32), path


def sentences(rng, count):
    return [[WORDS[word] for word in rng.integers(len(WORDS), size=4)] for _ in range(count)]


def trained(hmm):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = Dnn(DnnConfig(num_layers=2, hidden_dim=32, context=1), feat_dim=DIM, num_outputs=hmm.num_pdfs)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    spoken = [speak(hmm, words, rng) for words in sentences(rng, 60)]
    frames = SplicedFrames([feats for feats, _ in spoken], context=1)
    targets = torch.from_numpy(np.concatenate([path for _, path in spoken]))
    for batch in [batch for _ in range(8) for batch in torch.randperm(len(targets)).split(128)]:
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(network.forward_windows(frames.windows(batch)), targets[batch]).backward()
        optimiser.step()
    return network


def recogniser(directory, network, hmm):
    """A system of a network and an HMM of the four words, with a bigram of sentences."""
    lm = estimate_ngram(sentences(np.random.default_rng(1), 200), order=2, vocabulary=WORDS)
    parts = SystemParts(
        network=network,
        log_prior=torch.zeros(hmm.num_pdfs),
        features=FeatureConfig(fbank=FbankConfig(num_mel_bins=DIM)),
        hmm=hmm,
        lexicon=LEXICON,
        lm=lm,
        graph=build_graph(hmm, LEXICON, lm),
        decoding=DecodingConfig(acoustic_scale=0.3),
    )
    return write_system(directory, parts)


def data(hmm):
    rng = np.random.default_rng(2)
    utterances, feats = [], {}
    for speaker, accent in (("plain", 0.0), ("strange", 0.33)):
        for number, words in enumerate(sentences(rng, 30)):
            name = f"{speaker}-{number:02}"
            utterances.append(Utterance(name, Recording(name, "x.wav"), speaker, transcript=" ".join(words)))
            feats[name], _ = speak(hmm, words, rng, accent=accent)
    return Manifest(tuple(utterances)), feats


def num_right(hypotheses, manifest):
    pairs = [(hypothesis.text.split(), manifest.transcripts[name].split()) for name, hypothesis in hypotheses.items()]
    return sum(a == b for found, words in pairs for a, b in zip(found, words, strict=False))


def learning_from(supervision, **settings):
    sharpness = 2.0 if supervision is Supervision.soft else 1.0
    return AdaptConfig(supervision=supervision, sharpness=sharpness, **settings)
