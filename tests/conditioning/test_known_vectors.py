"""What is known of people before they are heard: files of vectors, attributes, and a table that is learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.toy_voices import FEATURES, toy_feats, toy_speech
from lhuc_asr.conditioning.attributes import Attribute, Attributes, AttributesConfig, learn_attributes
from lhuc_asr.conditioning.description import VoiceDescriber, learn_describer
from lhuc_asr.conditioning.hearing import causal_z
from lhuc_asr.conditioning.people import Nobody, Who, require_known, told_unknown
from lhuc_asr.conditioning.projection import Projection, ProjectionConfig, ProjectionKind
from lhuc_asr.conditioning.settings import ConditionConfig, VectorKind
from lhuc_asr.conditioning.sources import known_of, learn_known
from lhuc_asr.conditioning.statistics import StatisticsConfig, VoiceStatistics
from lhuc_asr.conditioning.table import NOBODY, SpeakerTable, TableConfig
from lhuc_asr.conditioning.vector_file import VectorFile, read_vectors
from lhuc_asr.conditioning.voices import TrainingVoices
from lhuc_asr.errors import ConfigError, DataError
from lhuc_asr.tensors import save_tensors

ANNA, BEN, EVE = Who("anna-1", "anna"), Who("ben-1", "ben"), Who("eve-1", "eve")


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_an_archive_and_tensors_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    vectors = {f"s{number}": np.array(row, np.float32) for number, row in enumerate(rows)}
    lines = (f"{name}  [ {' '.join(map(repr, vector.tolist()))} ]\n" for name, vector in vectors.items())
    (folder / "spk2vec").write_text("".join(lines))
    save_tensors({name: torch.from_numpy(vector) for name, vector in vectors.items()}, folder / "v.safetensors")
    for name in ("spk2vec", "v.safetensors"):
        found = read_vectors(folder / name)
        assert found.dim == 3 and found.vectors.keys() == vectors.keys()
        assert all(np.array_equal(found.vectors[one], vector) for one, vector in vectors.items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no vector"),
        ("a [ 1 2 ]\nb [ 1 ]\n", "'b' has 1 numbers, 'a' has 2"),
        ("a [ 1 nan ]\n", "the vector of 'a' is not finite"),
        ("a [ ]\n", "the vector of 'a' is empty"),
        ("a [ 1 ]\na [ 2 ]\n", "'a' stands there more than once"),
        ("a 1 2\nb ivectors.ark:4\n", r"line 2: expected lines ID \[ v1 v2 ... \], the one of 'b' is 'ivectors.ark:4'"),
        ("a [ 1 2 ]\nb [ 3 4", r"line 2: the vector of 'b' has no '\]' at its end; is it cut off\?"),
        ("a \0BFV ", r"is a binary Kaldi archive; write it as text: copy-vector"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "spk2vec").write_text(content)
    with pytest.raises(DataError, match=said):
        read_vectors(tmp_path / "spk2vec")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("none", "none.safetensors"):
        with pytest.raises(DataError, match="cannot"):
            read_vectors(tmp_path / name)


def write(directory: Path, **tables: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, content in tables.items():
        (directory / name).write_text(content)
    return directory


def learnt(directory: Path, **settings: list[str]) -> Attributes:
    return learn_attributes(directory, [ANNA, Who("anna-2", "anna"), BEN], AttributesConfig(**settings))


def test_vectors_of_held_out_speakers_alone_are_refused() -> None:
    file = VectorFile("spk2vec", {"anna": np.ones(1, np.float32)})
    require_known({"file": file}, [ANNA, BEN], held_out=[EVE])
    with pytest.raises(
        DataError, match=r"file know 1 of the 3 training speakers, .*: who are held out and do not count"
    ):
        require_known({"file": file}, [BEN, EVE], held_out=[ANNA])
    with pytest.raises(DataError, match=r"know none of the 2 training speakers, .*: their ids are others than 'ben'"):
        require_known({"file": file}, [BEN], held_out=[EVE])


def test_numbers_stay_and_names_become_ones(tmp_path: Path) -> None:
    data = write(tmp_path, spk2age="anna 7\nben 30\neve 90\n", spk2gender="anna f\nben m\n")
    attributes = learnt(data)
    assert attributes.dim == 3
    assert attributes(ANNA) is not None and attributes(BEN) is not None
    np.testing.assert_array_equal(attributes(ANNA), [7, 1, 0])  # type: ignore[arg-type]
    np.testing.assert_array_equal(attributes(BEN), [30, 0, 1])  # type: ignore[arg-type]
    as_names = learnt(data, tables=["spk2age"], categories=["spk2age"])
    np.testing.assert_array_equal(as_names(ANNA), [0, 1])  # type: ignore[arg-type]


def test_what_is_not_written_down_is_the_mean_of_the_training_speakers(tmp_path: Path) -> None:
    train = write(tmp_path / "train", spk2age="anna 10\nben 30\n", spk2gender="anna f\nben m\n")
    test = write(tmp_path / "test", spk2age="anna 7\n", spk2gender="anna x\neve f\n")
    attributes = learnt(train).of(test)
    np.testing.assert_array_equal(attributes(ANNA), [7, 0.5, 0.5])  # type: ignore[arg-type]
    np.testing.assert_array_equal(attributes(EVE), [20, 1, 0])  # type: ignore[arg-type]
    assert attributes(BEN) is None
    assert not any(attributes.knows(who) for who in (ANNA, BEN, EVE))
    assert told_unknown({"attributes": attributes}, [ANNA, BEN, EVE])[0].startswith(
        "attributes: not known of 3 of 3 speakers (3 of 3 utterances), such as 'anna'"
    )


def test_tables_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path, spk2age="zoe 7\n")
    with pytest.raises(DataError, match=r"spk2age' tells nothing of the 2 training speakers; its first id is 'zoe'"):
        learnt(data, tables=["spk2age"])
    with pytest.raises(DataError, match=r"has no table 'spk2gender', which condition.attributes.tables asks for"):
        learnt(data, tables=["spk2gender"])
    for settings in ({"tables": []}, {"tables": ["a", "a"]}, {"tables": ["a"], "categories": ["b"]}):
        with pytest.raises(ConfigError, match=r"condition\.attributes"):
            AttributesConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="num_dims must be at least 1, got 0"):
        TableConfig(num_dims=0)


@given(st.text(max_size=5), st.lists(st.text(max_size=3), min_size=1, max_size=5))
def test_any_text_has_its_place_in_a_vector(asked: str, found: list[str]) -> None:
    attribute = Attribute.of("spk2accent", found, is_category=True)
    numbers = attribute.numbers(asked)
    assert len(numbers) == len(set(found)) and abs(sum(numbers) - 1) < 1e-9
    assert attribute.knows(asked) is (asked in found)


def test_a_table_is_counted_from_its_mean_and_leaves_the_rest_of_z_alone() -> None:
    table = SpeakerTable(["anna", "ben", "cat"], 2, start=1, seed=1)
    torch.testing.assert_close(table.rows().mean(dim=0), torch.zeros(2))
    z = torch.tensor([[5.0, 0, 0, 6.0]] * 3)
    out = table(z, torch.tensor([table.row_of("ben"), NOBODY, table.row_of("zoe")]))
    assert torch.equal(out[0, 1:3], table.rows()[1]) and torch.equal(out[1:], z[1:])
    assert torch.equal(out[:, 0], z[:, 0]) and torch.equal(out[:, 3], z[:, 3])
    out[0].sum().backward()
    assert table.free.grad is not None and table.free.grad.abs().sum() > 0
    rows = table.learnt()
    assert rows(BEN) is not None and rows(EVE) is None and rows.knows(BEN) and not rows.knows(EVE)
    assert torch.equal(rows.tensor(), table.rows().detach())


def describer(*, known: bool = True) -> VoiceDescriber:
    heard = VoiceStatistics(StatisticsConfig(), FEATURES)
    describe = VoiceDescriber({"statistics": heard}, {"statistics": Projection.identity(heard.dim)}, 10.0)
    file = VectorFile("memory", {"anna": np.array([4.0, 2.0], np.float32), "ben": np.array([0.0, 0.0], np.float32)})
    projection = Projection(np.array([1.0, 1.0]), np.eye(2))
    return describe.with_known("file", file if known else Nobody(2), projection)


def test_what_is_known_stands_behind_what_is_heard_whole_from_the_first_frame() -> None:
    describe, feats = describer(), toy_feats(0, 30)
    heard_dim = describe.parts["statistics"]
    z = describe(feats, [ANNA])
    assert np.array_equal(z[heard_dim:], [3, 1]) and not np.allclose(z[:heard_dim], 0)
    assert np.array_equal(describe.unheard([ANNA]), np.concatenate([np.zeros(heard_dim), [3, 1]]))
    causal = causal_z(describe, feats, [ANNA], every=10, max_frames=100)
    assert (causal[:, heard_dim:] == [3, 1]).all() and not causal[:10, :heard_dim].any()
    assert np.array_equal(describe(feats, [ANNA, BEN])[heard_dim:], [1, 0])  # of several utterances, the mean


def test_somebody_unknown_is_the_mean_in_what_is_known() -> None:
    feats = toy_feats(0, 30)
    stranger = describer()(feats, [EVE])
    assert np.array_equal(stranger, describer(known=False)(feats, [ANNA])) and not stranger[-2:].any()
    assert np.array_equal(stranger[:-2], describer()(feats, [ANNA])[:-2])


def test_vectors_of_another_dimension_are_refused() -> None:
    with pytest.raises(DataError, match=r"learnt from vectors of 2 numbers \(file\), these have 3"):
        describer().knowing({"file": VectorFile("memory", {"anna": np.ones(3, np.float32)})})


def test_frames_that_are_not_finite_are_told_with_their_utterance() -> None:
    with pytest.raises(DataError, match="utterance 'anna-1': a voice can only be described by frames"):
        describer()(np.full((3, 8), np.nan, np.float32), [ANNA])


def test_training_speakers_of_whom_nothing_is_known_do_not_count(tmp_path: Path) -> None:
    speech = toy_speech(tmp_path)
    voices = TrainingVoices(speech, FEATURES, list(speech.feats))
    file = VectorFile("memory", {f"s{number}": np.array([number], np.float32) for number in (1, 3)})
    projection = ProjectionConfig(kind=ProjectionKind.standard)
    heard = [voices.voice(name, 0) for name in speech.feats]
    describe = learn_describer({}, heard, projection, shrink_frames=0, known={"file": file})
    assert describe.parts == {"file": 1}
    np.testing.assert_allclose(describe(heard[0].raw, [Who("x", "s1")]), [-1])
    np.testing.assert_array_equal(describe(heard[0].raw, [Who("x", "s0")]), [0])
    with pytest.raises(DataError, match="of kind file know none of the speakers to learn from"):
        learn_describer({}, heard, projection, shrink_frames=0, known={"file": VectorFile("m", {"z": np.ones(1)})})


def test_every_kind_is_made_from_its_settings(tmp_path: Path) -> None:
    data = write(tmp_path, spk2age="anna 10\nben 30\n", spk2gender="anna f\nben m\n", vectors="anna [ 1 ]\nben [ 2 ]\n")
    file = str(tmp_path / "vectors")
    config = ConditionConfig(vectors=[VectorKind.attributes, VectorKind.file], vectors_from=file)
    known = learn_known(config, data, [ANNA, BEN])
    assert list(known) == ["file", "attributes"]
    (data / "spk2age").write_text("anna 99\n")
    again = known_of(known, ConditionConfig(vectors_from=file), data)
    np.testing.assert_array_equal(again["attributes"](ANNA), [99, 1, 0])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"name that of this data, condition.vectors_from=FILE"):
        known_of(known, ConditionConfig(), data)
    with pytest.raises(ConfigError, match=r"goes by no file; train one with condition.vectors=\[file\]"):
        known_of({}, ConditionConfig(vectors_from=file), data)
