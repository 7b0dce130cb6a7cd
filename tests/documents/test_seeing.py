"""What only a model that sees can tell: charts and videos, asked of a stand-in engine with real pictures."""

import io
import json
import runpy
from pathlib import Path

import numpy
import pytest
from PIL import Image

from smidgen.cli.main import main
from smidgen.documents.authored import answer_schema, question
from smidgen.documents.choosing import ModelChooser
from smidgen.documents.extract import Extractor
from smidgen.documents.reading import File, PageReader
from smidgen.documents.schema import preset
from smidgen.documents.schema_reading import read_schema
from smidgen.errors import Unsupported
from smidgen.inference.engine import Chunk

video = runpy.run_path(str(Path(__file__).parents[1] / "inference" / "test_video.py"))["video"]
ANSWER = {
    "title": "Rye bread sold",
    "type": "bar",
    "x_axis": None,
    "y_axis": "loaves",
    "values": [{"series": None, "label": "2023", "value": 12.5}, {"series": None, "label": "2024", "value": 17}],
}


class Standin:
    """An engine that answers what it is told to, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked, self.held, self.options = answer, [], None, {}

    def hold_to(self, schema):
        self.held = schema

    def chat(self, messages, options):
        self.asked += messages
        yield Chunk(self.answer, done=True)

    def __enter__(self):
        return self

    def __exit__(self, *ending):
        pass


@pytest.fixture
def seeing(monkeypatch, tmp_path):
    """A chooser of a model with a projector, and the engine that stands in for it."""

    def make(answer):
        engine = Standin(answer if isinstance(answer, str) else json.dumps(answer))
        monkeypatch.setattr(
            "smidgen.inference.engine.open_engine", lambda path, **options: engine.options.update(options) or engine
        )
        return ModelChooser("eye", tmp_path / "eye.gguf", 1, tmp_path / "mmproj.gguf"), engine

    return make


def chart(picture):
    written = io.BytesIO()
    picture(["Rye bread sold", "loaves", "2023   12.50"]).save(written, "PNG")
    return File("chart.png", written.getvalue())


def test_the_numbers_of_a_chart_are_read_and_told_apart_by_whether_the_page_says_them(seeing, picture):
    chooser, engine = seeing(ANSWER)
    found = Extractor(read_schema(preset("chart")), PageReader(), chooser).extract(chart(picture))
    assert found.data == ANSWER
    status = {path: each.status for path, each in found.fields.items()}
    assert status == {
        "title": "grounded", "type": "ungrounded", "x_axis": "missing", "y_axis": "grounded",
        "values[0].series": "missing", "values[0].label": "grounded", "values[0].value": "grounded",
        "values[1].series": "missing", "values[1].label": "ungrounded", "values[1].value": "ungrounded",
    }  # fmt: skip
    printed = found.fields["values[0].value"]
    assert printed.page == 1 and printed.box.left > 60 and printed.confidence <= 0.5
    assert found.fields["values[1].value"].box is None and found.fields["values[1].value"].confidence < 0.5
    (message,) = engine.asked
    assert (
        len(message.images) == 1
        and "- values (a list): every value" in message.content
        and "- title: what the chart" in message.content
    )
    with Image.open(io.BytesIO(message.images[0])) as shown:
        assert shown.format == "PNG" and shown.size == (520, 194)
    assert engine.held["properties"]["values"]["maxItems"] == 60
    assert engine.options["projector"].name == "mmproj.gguf" and engine.options["context"] > 2048


def test_a_video_is_asked_about_by_frames_that_follow_each_other(seeing):
    schema = {"properties": {"people": {"type": "integer", "x-kind": "seen", "description": "how many people pass"}}}
    chooser, engine = seeing({"people": 3})
    content = video(80)
    found = Extractor(read_schema(schema), PageReader(), chooser).extract(File("clip.mp4", content))
    assert found.data == {"people": 3} and found.fields["people"].status == "ungrounded"
    assert [page.number for page in found.pages] == list(range(1, 9))
    (message,) = engine.asked
    assert "these 8 pictures, which follow each other" in message.content and "how many people pass" in message.content
    greys = [numpy.asarray(Image.open(io.BytesIO(each))).mean() for each in message.images]
    assert len(greys) == 8 and greys == sorted(greys) and greys[-1] - greys[0] > 150


@pytest.mark.parametrize("answer", ['{"people": ', "[]", "{}"])
def test_an_answer_that_breaks_off_is_missing(seeing, picture, answer):
    schema = {"properties": {"people": {"type": "integer", "x-kind": "seen"}}}
    chooser, _ = seeing(answer)
    found = Extractor(read_schema(schema), PageReader(), chooser).extract(chart(picture))
    assert found.fields["people"].status == "missing" and found.data == {"people": None}


def test_what_does_not_fit_the_schema_is_told(seeing, picture):
    schema = {"properties": {"year": {"type": "string", "x-kind": "seen", "pattern": "^[0-9]{4}$"}}}
    chooser, _ = seeing({"year": "last year"})
    found = Extractor(read_schema(schema), PageReader(), chooser).extract(chart(picture))
    assert found.fields["year"].status == "invalid_format" and found.data == {"year": None}


def test_a_model_without_eyes_is_refused(tmp_path, picture, capsys):
    wanted = read_schema(preset("chart"))
    for chooser in (None, ModelChooser("blind", tmp_path / "model.gguf", 1)):
        with pytest.raises(Unsupported, match="only a model that sees"):
            Extractor(wanted, PageReader(), chooser)
    path = tmp_path / "chart.png"
    path.write_bytes(chart(picture).content)
    assert main(["extract", str(path), "--preset", "chart", "--model", "none", "--quiet"]) == 2
    assert "only a model that sees" in capsys.readouterr().err


def test_words_of_a_frame_are_read_without_a_model_that_sees(picture):
    import av

    file = io.BytesIO()
    shown = picture(["Receipt No: 55821", "Total amount 12.50"])
    with av.open(file, "w", format="mp4") as made:
        stream = made.add_stream("mpeg4", rate=5, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *shown.size, "yuv420p", 4_000_000
        for packet in [*stream.encode(av.VideoFrame.from_image(shown)), *stream.encode()]:
            made.mux(packet)
    schema = {"properties": {"receipt_number": {"type": "string"}, "total": {"type": "number"}}}
    found = Extractor(read_schema(schema), PageReader()).extract(File("clip.mp4", file.getvalue()))
    assert found.data == {"receipt_number": "55821", "total": 12.5}
    assert found.fields["total"].page == 1 and found.fields["total"].status == "grounded"


def test_what_is_asked_has_bounds():
    wanted = read_schema(preset("chart"))
    schema = answer_schema(wanted)
    assert schema["properties"]["title"]["maxLength"] == 200 and "x-kind" not in json.dumps(schema)
    assert schema["required"] == ["title", "type", "x_axis", "y_axis", "values"]
    assert question(wanted, 1).startswith("Look at this picture and answer in JSON:\n- title: what the chart is called")
