"""Random mixtures, and their log-likelihoods by scipy."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from lhuc_asr.hmm.mixtures.gmm import Gmm


def random_gmm(generator: np.random.Generator, sizes: list[int], dim: int) -> Gmm:
    weights = np.concatenate([generator.dirichlet(np.ones(size)) for size in sizes])
    total = sum(sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return Gmm(offsets, weights, generator.normal(size=(total, dim)), generator.uniform(0.2, 2.0, (total, dim)))


def by_scipy(gmm: Gmm, feats: np.ndarray, pdf: int) -> np.ndarray:
    own = range(gmm.offsets[pdf], gmm.offsets[pdf + 1])
    parts = [
        np.log(gmm.weights[g]) + multivariate_normal.logpdf(feats, gmm.means[g], np.diag(gmm.variances[g])) for g in own
    ]
    return logsumexp(parts, axis=0)


def drawn_from(gmm: Gmm, generator: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the mixtures, and the mixture of each."""
    pdfs = generator.integers(0, gmm.num_pdfs, num_frames).astype(np.int32)
    rows = []
    for pdf in pdfs:
        own = np.arange(gmm.offsets[pdf], gmm.offsets[pdf + 1])
        chosen = generator.choice(own, p=gmm.weights[own])
        rows.append(generator.normal(gmm.means[chosen], np.sqrt(gmm.variances[chosen])))
    return np.array(rows, np.float32), pdfs
