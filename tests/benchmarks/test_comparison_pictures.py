"""The pictures of a comparison are taken of a report, and nothing is taken of none."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(ROOT / "benchmarks" / "comparison_pictures.py"))["main"]


def test_a_report_that_is_not_there_is_said(main, tmp_path, capsys):
    assert main([str(tmp_path / "none.html"), "--into", str(tmp_path / "shots")]) == 2
    assert "smidgen compare" in capsys.readouterr().err and not (tmp_path / "shots").exists()


@pytest.mark.browser
def test_five_models_fit_into_every_width(main, tmp_path, capsys):
    realistic = runpy.run_path(str(ROOT / "tests" / "evaluate" / "realistic_comparison.py"))["realistic_comparison"]
    (tmp_path / "report.html").write_text(realistic().to_html(), encoding="utf-8")
    assert main([str(tmp_path / "report.html"), "--into", str(tmp_path), "--look"]) == 0
    widths = {path.stem: int.from_bytes(path.read_bytes()[16:20], "big") for path in tmp_path.glob("*.png")}
    assert len(widths) == 6 and widths["comparison"] == widths["comparison-answers"] == 900
    assert widths["comparison-phone"] == 390 and "more than the window" not in capsys.readouterr().out
