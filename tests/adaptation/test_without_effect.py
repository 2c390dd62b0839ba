"""Settings that would change nothing are refused; where they mean something they are not."""

from __future__ import annotations

from typing import Any

import pytest

from lhuc_asr.adaptation.parameters.config import Parameters
from lhuc_asr.adaptation.parameters.estimate_config import Estimation, PriorShape
from lhuc_asr.adaptation.targets.config import Confidence, Selection, Supervision, Weighting
from lhuc_asr.adaptation.targets.doubt import ConfusionOver
from lhuc_asr.adaptation.update.config import MEANINGS, AdaptConfig
from lhuc_asr.errors import ConfigError
from lhuc_asr.training.criteria.criterion import CriterionKind

GIVEN: dict[str, Any] = {
    "lattice_scale": 0.3,
    "sharpness": 3.0,
    "num_sentences": 3,
    "confidence": Confidence.frame,
    "tolerance": 9,
    "share_of": Selection.frames,
    "entropy_order": 1.5,
    "confusion": 0.5,
    "confusion_over": ConfusionOver.classes,
    "negatives": 0.4,
    "temperature": 2.5,
    "prior_layers": [5.0],
    "prior_shape": PriorShape.laplace,
    "posterior_std": 0.5,
    "rank": 9,
    "held_out_gain": 0.2,
    "patience": 9,
}
LFMMI_LATTICE = {"criterion": CriterionKind.lfmmi, "supervision": Supervision.lattice}
MEANT: list[tuple[str, dict[str, Any]]] = [
    ("lattice_scale", {"supervision": Supervision.lattice}),
    ("lattice_scale", {"supervision": Supervision.n_best}),
    ("lattice_scale", {"supervision": Supervision.mbr}),
    ("lattice_scale", {"weights": Weighting.frame}),
    ("lattice_scale", {"supervision": Supervision.words, "words_from": "x", "weights": Weighting.frame}),
    ("lattice_scale", LFMMI_LATTICE),
    ("sharpness", {"supervision": Supervision.soft}),
    ("sharpness", {**LFMMI_LATTICE, "smoothing": 0.1}),
    ("num_sentences", {"supervision": Supervision.n_best}),
    ("confidence", {"best_share": 0.5}),
    ("confidence", {"min_confidence": 0.5}),
    ("tolerance", {"criterion": CriterionKind.lfmmi}),
    ("share_of", {"best_share": 0.5}),
    ("entropy_order", {"supervision": Supervision.entropy}),
    ("confusion", {"supervision": Supervision.entropy}),
    ("confusion_over", {"supervision": Supervision.entropy, "confusion": 0.5}),
    ("negatives", {"supervision": Supervision.entropy}),
    ("temperature", {"supervision": Supervision.entropy}),
    ("prior_layers", {"prior": 1.0}),
    ("prior_shape", {"prior": 1.0}),
    ("posterior_std", {"estimation": Estimation.bayesian, "prior": 1.0}),
    ("rank", {"parameters": Parameters.lora}),
    ("held_out_gain", {"held_out_share": 0.25}),
    ("patience", {"held_out_share": 0.25}),
]
NOT_MEANT: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in GIVEN),
    ("lattice_scale", {"weights": Weighting.word}),
    ("lattice_scale", {"criterion": CriterionKind.smbr}),
    ("sharpness", LFMMI_LATTICE),
    ("tolerance", LFMMI_LATTICE),
    ("entropy_order", {"supervision": Supervision.entropy, "confusion": 1.0}),
    ("confusion_over", {"supervision": Supervision.entropy}),
    ("share_of", {"min_confidence": 0.5}),
    ("prior_layers", {"prior_from": "x"}),
    ("prior_shape", {"subspace": "x"}),
]


def test_every_setting_of_the_table_is_tried() -> None:
    assert set(GIVEN) == set(MEANINGS) == {name for name, _ in MEANT}


@pytest.mark.parametrize(("name", "others"), MEANT)
def test_what_means_something_is_taken(name: str, others: dict[str, Any]) -> None:
    assert getattr(AdaptConfig(**{name: GIVEN[name], **others}), name) == GIVEN[name]


@pytest.mark.parametrize(("name", "others"), NOT_MEANT)
def test_what_would_change_nothing_is_refused_in_one_line(name: str, others: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as problem:
        AdaptConfig(**{name: GIVEN[name], **others})
    told = str(problem.value)
    assert told.startswith(f"adapt.{name}=") and MEANINGS[name].needs in told and "\n" not in told
