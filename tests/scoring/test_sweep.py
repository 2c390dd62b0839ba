"""Points of a sweep: kept, read back, compared in a table and drawn."""

from __future__ import annotations

import itertools

import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.scoring.comparison import compare
from lhuc_asr.scoring.edit import ErrorCounts
from lhuc_asr.scoring.sweep import (
    POINTS,
    Learning,
    SweepPoint,
    check_source,
    read_points,
    short_names,
    sweep_table,
    swept_settings,
    write_point,
    write_sweep,
)
from lhuc_asr.scoring.sweep_picture import draw_sweep, sweep_layout
from lhuc_asr.scoring.wer import score

LEARNING = Learning(objective_before=2.0, objective_after=1.5, update_seconds=3.0, audio_seconds=60.0)
SOURCE = {"model": "m", "speech": "s"}


def point(*, failed=None, before=50, after=40, **settings):
    return SweepPoint(
        name=str(settings),
        settings={key.replace("__", "."): value for key, value in settings.items()},
        before=ErrorCounts(0, 0, before, 100),
        after=ErrorCounts(0, 0, after, 100),
        p_value=0.0004,
        num_better=2,
        num_same=1,
        num_worse=0,
        learning=LEARNING,
        failed=failed or {},
    )


def points(**values):
    return [point(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*values.values())]


def test_a_point_is_read_as_it_was_written(tmp_path, random_systems):
    speech = random_systems(0)
    scores = [score(speech.references, speech.system(rate), speech.speaker_of) for rate in (0.5, 0.2)]
    comparison = compare(*scores)
    settings = {"adapt.lr": 0.8, "lhuc.layers": [1, 2], "protocol.seconds": None}
    written = write_point(
        tmp_path / POINTS / "a", comparison, LEARNING, settings=settings, failed={"José": "silent"}, source=SOURCE
    )
    assert read_points(tmp_path) == [written]
    assert written.before == scores[0].total and written.after == scores[1].total
    assert written.p_value == comparison.matched_pairs.p_value and written.settings == settings
    assert written.relative_change == pytest.approx(comparison.relative_change)
    assert written.num_better + written.num_same + written.num_worse == 6
    assert written.learning == LEARNING and written.failed == {"José": "silent"}


def test_points_are_ordered_by_their_settings(tmp_path, random_systems):
    speech = random_systems(1, num_utterances=12)
    result = score(speech.references, speech.system(0.3), speech.speaker_of)
    for name, lr in (("c", 10.0), ("a", 2.0), ("b", 0.5)):
        write_point(
            tmp_path / POINTS / name,
            compare(result, result),
            LEARNING,
            settings={"adapt.lr": lr, "lhuc.amplitude": "exp"},
            failed={},
            source=SOURCE,
        )
    assert [found.settings["adapt.lr"] for found in read_points(tmp_path)] == [0.5, 2.0, 10.0]
    check_source(tmp_path, read_points(tmp_path), SOURCE)
    with pytest.raises(DataError, match="another speech"):
        check_source(tmp_path, read_points(tmp_path), {**SOURCE, "speech": "other"})


def test_a_damaged_point_is_named(tmp_path):
    (tmp_path / POINTS / "a").mkdir(parents=True)
    (tmp_path / POINTS / "a" / "results.json").write_text("{}")
    with pytest.raises(DataError, match="points/a"):
        read_points(tmp_path)


def test_the_table_shows_only_what_differs():
    title, _, first, *others = sweep_table(points(adapt__lr=[0.4, 0.8], lhuc__layers=[[], [1, 2]], x__y=[7])).split(
        "\n"
    )
    assert title.split()[:4] == ["lr", "layers", "SI", "LHUC"] and "failed" not in title
    assert first.split()[:2] == ["0.4", "all"] and others[0].split()[:2] == ["0.4", "1,2"]
    assert "50 -> 40" in first and "-20.00 %" in first and "<0.001" in first and "2/1/0" in first
    assert "2.000 -> 1.500" in first and first.endswith("3.0")


def test_the_table_counts_failures():
    found = sweep_table([point(adapt__lr=1.0), point(adapt__lr=9.0, failed={"a": "diverged"})]).splitlines()
    assert found[0].endswith("failed") and [line[-1] for line in found[2:]] == ["0", "1"]


def test_no_errors_to_begin_with():
    assert point(before=0, after=0).relative_change is None
    assert "-" in sweep_table([point(before=0, after=1)])


def test_settings_that_end_alike_keep_their_group():
    assert short_names(["adapt.seed", "runtime.seed", "adapt.lr"]) == {
        "adapt.seed": "adapt.seed",
        "runtime.seed": "runtime.seed",
        "adapt.lr": "lr",
    }


def test_the_slowest_setting_comes_first():
    assert list(swept_settings(points(b=[1, 2], a=["x", "y", "z"], c=[0]))) == ["b", "a"]


def test_numbers_are_the_axis_then_layers_then_names():
    grid = {"lhuc__amplitude": ["exp", "relu", "identity"], "adapt__num_epochs": [5, 1]}
    layout = sweep_layout(points(**grid))
    assert layout.key == "adapt.num_epochs" and layout.values == (1, 5)
    assert [line.label for line in layout.lines] == ["exp", "relu", "identity"] and layout.others == "amplitude"
    assert [found.settings["adapt.num_epochs"] for found in layout.lines[0].points] == [1, 5]
    layout = sweep_layout(points(lhuc__amplitude=["exp", "relu"], lhuc__layers=[[2], [], [1]]))
    assert layout.key == "lhuc.layers" and layout.values == ([2], [], [1])
    layout = sweep_layout(points(protocol__name=["two_pass", "enrolment"], lhuc__amplitude=["exp", "relu", "identity"]))
    assert layout.key == "lhuc.amplitude" and not layout.is_ordered


@pytest.mark.parametrize(("values", "expected"), [([0.1, 0.4, 1.6], True), ([1, 2, 5], False), ([0, 1, 9], False)])
def test_wide_ranges_are_logarithmic(values, expected):
    assert sweep_layout(points(adapt__lr=values)).is_logarithmic is expected


def test_a_single_point_is_no_picture(tmp_path):
    assert not draw_sweep(tmp_path / "a.png", [point(adapt__lr=1.0)]) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "grid",
    [
        {"adapt__lr": [0.1, 0.8], "lhuc__layers": [[], [1]]},
        {"lhuc__amplitude": ["exp", "relu"], "protocol__seconds": [None, 10.0]},
        {"adapt__num_epochs": list(range(1, 4)), "adapt__seed": list(range(3)), "lhuc__layers": [[i] for i in (1, 2)]},
    ],
)
@pytest.mark.parametrize("same_before", [True, False])
def test_a_picture_is_drawn(tmp_path, grid, same_before):
    found = points(**grid)
    if not same_before:
        found = [point(**one.settings, before=50 + number) for number, one in enumerate(found)]
    assert draw_sweep(tmp_path / "a.png", found, note="protocol enrolment")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_file_for_programs(tmp_path):
    import json

    write_sweep(tmp_path, points(adapt__lr=[0.4, 0.8]), fingerprint="f")
    page = json.loads((tmp_path / "sweep.json").read_text())
    assert page["fingerprint"] == "f" and [found["settings"]["adapt.lr"] for found in page["points"]] == [0.4, 0.8]
    assert page["points"][0]["SI"]["errors"] == 50 and page["points"][0]["mapsswe_p_value"] == 0.0004
