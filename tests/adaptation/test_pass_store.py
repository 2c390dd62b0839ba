"""Passes on disk: what is lost or damaged is made again, and runs that share a directory do not disturb each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.adaptation.passes.pass_store import PassStore
from lhuc_asr.adaptation.passes.speaker_passes import SpeakerPass
from lhuc_asr.decoding.lattices.lattice import Lattice
from lhuc_asr.decoding.words.hypothesis import Hypothesis, Word
from lhuc_asr.errors import DataError


def heard(word: str = "ONE") -> Hypothesis:
    return Hypothesis("u", (Word(word, 0.0, 0.1),), np.ones(10, np.int32), 1.0, 2.0)


def searched(cost: float = 1.0) -> Lattice:
    return Lattice(
        utterance="u",
        source=np.array([0], np.int32),
        target=np.array([1], np.int32),
        transition_id=np.array([1], np.int32),
        word=np.array([0], np.int32),
        graph_cost=np.array([cost], np.float32),
        acoustic_cost=np.array([2.0], np.float32),
        final_cost=np.array([np.inf, 0.0], np.float32),
        acoustic_scale=0.1,
    )


PLAIN = SpeakerPass({"u": heard()}, {"v": "no path"})
WHOLE = SpeakerPass({"u": heard()}, {"v": "no path"}, {"u": searched()})


def as_earlier_versions(directory: Path) -> None:
    """A page that tells no digests."""
    page = json.loads((directory / "pass.json").read_text())
    kept = {name: value for name, value in page.items() if not name.endswith("_sha256")}
    (directory / "pass.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("earlier", [False, True])
def test_what_was_written_is_read(tmp_path: Path, earlier: bool) -> None:
    store = PassStore(tmp_path)
    put = store.put("s", "key", WHOLE)
    if earlier:
        as_earlier_versions(tmp_path / "s")
    found = store.get("s", "key", with_lattices=True)
    assert found is not None and found.failed == {"v": "no path"} and found.hypotheses["u"].text == "ONE"
    assert found.lattices_sha256 == put.lattices_sha256
    assert store.lattices("s", found)["u"].graph_cost.tolist() == [1.0]
    assert store.get("s", "another") is None and store.get("nobody", "key") is None


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_lattices_that_cannot_be_read_are_made_again(
    tmp_path: Path, damage: str, earlier: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store, path = PassStore(tmp_path), tmp_path / "s" / "lattices.safetensors"
    store.put("s", "key", WHOLE)
    if earlier:
        as_earlier_versions(tmp_path / "s")
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(b"junk" + path.read_bytes()[4:])
    assert store.get("s", "key", with_lattices=True) is None
    assert "cannot be used and is made again" in caplog.text
    assert store.get("s", "key") is not None, "the words are still good"
    again = store.put("s", "key", WHOLE)
    assert store.lattices("s", again).keys() == {"u"}


def test_who_needs_less_takes_nothing_from_who_needs_more(tmp_path: Path) -> None:
    one, other = PassStore(tmp_path), PassStore(tmp_path)
    known = one.put("s", "key", WHOLE)
    other.put("s", "key", PLAIN)
    assert one.lattices("s", known).keys() == {"u"}
    assert one.get("s", "key", with_lattices=True) is not None


def test_another_runs_files_are_never_taken_for_ones_own(tmp_path: Path) -> None:
    one, other = PassStore(tmp_path), PassStore(tmp_path)
    known, page = one.put("s", "key", WHOLE), (tmp_path / "s" / "pass.json").read_bytes()
    other.put("s", "another", SpeakerPass({"u": heard("TWO")}, {}, {"u": searched(3.0)}))
    with pytest.raises(DataError, match="another run has replaced them"):
        one.lattices("s", known)
    (tmp_path / "s" / "pass.json").write_bytes(page)  # as a reader meets it between two files
    assert one.get("s", "key") is None


def test_a_write_that_was_broken_off_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PassStore(tmp_path)
    for earlier in (False, True):
        store.put("s", "key", PLAIN)
        if earlier:
            as_earlier_versions(tmp_path / "s")
        with monkeypatch.context() as patch:
            patch.setattr("lhuc_asr.adaptation.passes.pass_store.write_json", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.put("s", "another", SpeakerPass({"u": heard("TWO")}))
        assert store.get("s", "key") is None and store.get("s", "another") is None


def interrupted(path: Path, value: object) -> None:
    raise KeyboardInterrupt
