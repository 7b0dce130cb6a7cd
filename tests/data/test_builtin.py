from smidgen.data import builtin
from smidgen.data.rows import Corpus
from smidgen.data.shingles import shingles


def everything(corpus: Corpus) -> frozenset[int]:
    return shingles("\n".join(row.plain for row in corpus.rows))


def test_builtin_holds_every_topic_once() -> None:
    from pydoc_data.topics import topics

    corpus = builtin.builtin()
    assert [row.origin for row in corpus.rows] == sorted(topics)
    assert 400_000 < corpus.characters < 900_000
    assert corpus.licence == "PSF-2.0"
    assert len(corpus.sha256) == 64


def test_parts_share_no_topic_and_no_passage() -> None:
    calibration, held_out = builtin.calibration(), builtin.held_out()
    assert not {row.origin for row in calibration.rows} & {row.origin for row in held_out.rows}
    assert len(everything(calibration)) > 25_000
    assert len(everything(held_out)) > 8_000
    assert not everything(calibration) & everything(held_out)


def test_a_split_by_topic_alone_would_share_passages() -> None:
    rows = builtin.builtin().rows
    assert everything(Corpus("even", rows[::2])) & everything(Corpus("odd", rows[1::2]))


def test_held_out_is_about_a_quarter() -> None:
    held, trained = builtin.held_out().characters, builtin.calibration().characters
    assert 0.15 < held / (held + trained) <= 0.25


def test_parts_repeat_hardly_anything_inside() -> None:
    for part in (builtin.calibration(), builtin.held_out()):
        runs = sum(len(shingles(row.plain)) for row in part.rows)
        assert len(everything(part)) > 0.9 * runs
