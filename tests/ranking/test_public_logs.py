"""MovieLens and KuaiRand, each in a folder of a few lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhuc_asr.errors import DataError
from lhuc_asr.ranking.data.kuairand import USER_TRAITS, read_kuairand
from lhuc_asr.ranking.data.movielens import read_movielens
from lhuc_asr.ranking.data.tables import ABSENT, word_id

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag\n"
)


@pytest.fixture
def dat(tmp_path: Path) -> Path:
    """ml-1m of three ratings."""
    (tmp_path / "ratings.dat").write_text("1::10::5::300\n2::10::3::200\n1::11::4::100\n")
    films = "10::Toy Story (1995)::Animation|Comedy\n11::Misérables, Les (1998)::Drama\n"
    (tmp_path / "movies.dat").write_text(films, encoding="latin-1")
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    return tmp_path


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """ml-latest of three ratings."""
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,3.5,300\n2,10,4.0,200\n1,11,0.5,100\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n10,"American President, The (1995)",Comedy|Drama\n11,X,IMAX\n'
    )
    return tmp_path


@pytest.fixture
def kuairand(tmp_path: Path) -> Path:
    """KuaiRand-Pure of two logs with three lines."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "log_standard_4_08_to_4_21_pure.csv").write_text(
        LOG + "3,10,20220408,1630,1649408076860,1,0,0,0,0,0,1,175045,87433,0,0,0,0,1\n"
        "4,20,20220416,2000,1650111976017,0,0,0,0,0,0,0,0,65400,0,0,0,0,0\n"
    )
    (data / "log_standard_4_22_to_5_08_pure.csv").write_text(
        LOG + "3,99,20220425,900,1650811976017,1,1,0,0,0,0,0,0,0,0,0,0,0,4\n"
    )
    (data / "log_random_4_22_to_5_08_pure.csv").write_text(LOG + "not,read\n")
    header = ",".join(("user_id", *USER_TRAITS)) + "\n"
    traits = 'full_active,0,0,1,"(10,50]",0,0,366-730' + ",1" * 18
    (data / "user_features_pure.csv").write_text(header + f"3,{traits}\n4,{traits.replace('full', 'high')}\n")
    (data / "video_features_basic_pure.csv").write_text(
        VIDEOS + "10,123,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,39\n"
        '20,456,NORMAL,2022-04-10,Kmovie,0.0,218066.0,720.0,1280.0,6355810746,,"12,65"\n'
    )
    return tmp_path


def test_movielens_1m(dat: Path) -> None:
    timed = read_movielens(dat)
    log = timed.log
    assert (log.user_id.tolist(), log.item_id.tolist(), timed.times.tolist()) == (
        [1, 2, 1],
        [10, 10, 11],
        [300, 200, 100],
    )
    assert log.labels["like"].tolist() == [1, 0, 1]
    assert log.domain.tolist() == [0, 0, 0]
    assert set(log.sparse) == {"year", "genres", "gender", "age_group", "occupation"}
    assert log.sparse["year"].tolist() == [word_id(year) for year in ("1995", "1995", "1998")]
    assert log.sparse["genres"][2] == word_id("Drama")
    assert log.sparse["gender"].tolist() == [word_id(one) for one in "FMF"]


def test_movielens_latest(csv: Path) -> None:
    log = read_movielens(csv, like_from=3.5).log
    assert log.labels["like"].tolist() == [1, 1, 0]
    assert set(log.sparse) == {"year", "genres"}
    assert log.sparse["year"].tolist() == [word_id(year) for year in ("1995", "1995", "")]
    assert log.sparse["genres"].tolist() == [word_id(one) for one in ("Comedy|Drama", "Comedy|Drama", "IMAX")]


def test_kuairand(kuairand: Path, caplog: pytest.LogCaptureFixture) -> None:
    timed = read_kuairand(kuairand)
    log = timed.log
    assert (log.user_id.tolist(), log.item_id.tolist()) == ([3, 4, 3], [10, 20, 99])
    assert log.domain.tolist() == [1, 0, 4]
    assert {task: label.tolist() for task, label in log.labels.items()} == {
        "click": [1, 0, 1],
        "like": [0, 0, 1],
        "follow": [0, 0, 0],
        "long_view": [1, 0, 0],
    }
    assert log.sparse["hour"].tolist() == [16, 20, 9]
    assert log.sparse["tag"].tolist() == [word_id("39"), word_id("12,65"), ABSENT]
    assert log.sparse["follow_user_num_range"].tolist() == [word_id("(10,50]")] * 3
    np.testing.assert_allclose(log.dense["log_duration"], np.log1p([87.433, 65.4, 0.0]), rtol=1e-6)
    assert timed.times.tolist() == [1649408076860, 1650111976017, 1650811976017]
    assert "lacks 1 ids of the log" in caplog.text
    assert not {"play_time_ms", "profile_stay_time"} & {*log.sparse, *log.dense}, "known only afterwards"


def test_the_folder_may_be_the_inner_one(kuairand: Path) -> None:
    assert len(read_kuairand(kuairand / "data").log) == 3


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "ratings.csv",
            "userId,movieId,rating\n1,2,3\n",
            r"lacks the columns timestamp; it has: userId, movieId, rating",
        ),
        ("ratings.csv", "userId,movieId,rating,timestamp\n", "has a header and no lines"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,good,4\n", "needs numbers in the columns userId"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1.5,2,3,4\n", "column 'userId': 1.5 in line 2 is no whole"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,nan,3,4\n", "column 'movieId': nan in line 2 is no whole"),
        ("ratings.csv", None, r"there is no '.*ratings.csv'; the folder has: movies.csv"),
        ("movies.csv", "movieId,title,genres\n10,X\n", "line 2: 2 fields, the header has more"),
        ("movies.csv", "movieId,title,genres\n10,X,Y\n10,X,Y\n", "lists '10' twice"),
    ],
)
def test_bad_movielens_is_refused(name: str, text: str | None, said: str, csv: Path) -> None:
    (csv / name).unlink() if text is None else (csv / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_movielens(csv)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ratings.dat", "1::2::3\n", "line 1: 4 fields between '::' are needed, got 3"),
        ("ratings.dat", "1::2::x::3\n", "needs numbers between '::'"),
        ("ratings.dat", "", "is empty"),
        ("users.dat", "1::F\n", "line 1: 5 fields"),
    ],
)
def test_bad_movielens_1m_is_refused(name: str, text: str, said: str, dat: Path) -> None:
    (dat / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_movielens(dat)


def test_films_without_traits_are_told(csv: Path, caplog: pytest.LogCaptureFixture) -> None:
    (csv / "movies.csv").write_text("movieId,title,genres\n10,X,Y\n")
    assert read_movielens(csv).log.sparse["genres"][2] == ABSENT
    assert "1 films with ratings are in no table" in caplog.text


def test_bad_kuairand_is_refused(kuairand: Path) -> None:
    (kuairand / "data" / "user_features_1k.csv").write_text("user_id\n")
    with pytest.raises(DataError, match=r"several sizes of KuaiRand \(user_features_1k.csv, user_features_pure.csv\)"):
        read_kuairand(kuairand)
    (kuairand / "data" / "user_features_1k.csv").unlink()
    (kuairand / "data" / "user_features_pure.csv").unlink()
    with pytest.raises(DataError, match=r"there is no user_features_\*.csv in"):
        read_kuairand(kuairand)
    with pytest.raises(DataError, match=r"there is no log_standard_\*.csv in .*it has: nothing"):
        read_kuairand(kuairand / "absent")


def test_a_length_that_is_no_number_is_refused(kuairand: Path) -> None:
    path = kuairand / "data" / "log_standard_4_22_to_5_08_pure.csv"
    path.write_text(LOG + "3,99,20220425,900,1650811976017,1,1,0,0,0,0,0,0,nan,0,0,0,0,4\n")
    with pytest.raises(DataError, match="'log_duration' has NaN or infinity in 1 of 3 rows"):
        read_kuairand(kuairand)
