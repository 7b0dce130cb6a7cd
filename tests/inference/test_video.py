"""Frames of real videos, made here, are sampled evenly; what is no video is an error for a person."""

import io
import sys

import av
import numpy
import pytest
from PIL import Image

from smidgen.errors import DamagedFile, MissingExtra, ReferenceNotFound, Unsupported
from smidgen.inference.video import Clip, frames


def video(count, *, rate=10, kind="mp4", codec="mpeg4", size=(64, 48), begin=0):
    """A video whose frames get brighter: frame ``n`` of ``count`` is ``20 + 200 n / count`` grey."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as made:
        stream = made.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size = 12
        for number in range(count):
            grey = numpy.full((size[1], size[0], 3), 20 + 200 * number // count, numpy.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = number + begin
            for packet in stream.encode(frame):
                made.mux(packet)
        for packet in stream.encode():
            made.mux(packet)
    return file.getvalue()


def greys(clip):
    return [float(numpy.asarray(clip.frame(index)).mean()) for index in range(clip.count)]


@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("webm", "libvpx"), ("avi", "mpeg4")]
)
def test_frames_are_sampled_evenly_over_the_whole_length(kind, codec):
    clip = Clip(video(80, kind=kind, codec=codec), "clip")
    assert clip.count == 8
    assert clip.times == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5], abs=0.1)
    for index, grey in enumerate(greys(clip)):
        assert grey == pytest.approx(20 + 200 * (10 * index + 5) / 80, abs=5)
    assert clip.frame(0).size == (64, 48)
    first = float(numpy.asarray(clip.frame(0)).mean())  # the same again, after the last
    assert first == pytest.approx(20 + 200 * 5 / 80, abs=5)
    clip.close()


def test_a_short_video_has_no_more_frames_than_it_has():
    clip = Clip(video(3), "clip.mp4")
    assert clip.count == 3 and greys(clip) == pytest.approx([20, 86, 153], abs=5)


def test_frames_of_a_file_are_png_with_their_times(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(video(20, size=(1600, 400)))
    found = list(frames(path, 2))
    assert [seconds for seconds, _ in found] == pytest.approx([0.5, 1.5], abs=0.1)
    with Image.open(io.BytesIO(found[1][1])) as image:
        assert (image.format, image.size) == ("PNG", (1024, 256))
    with pytest.raises(ReferenceNotFound):
        list(frames(tmp_path / "none.mp4"))


def test_what_cannot_be_decoded_is_told():
    whole = video(40)
    for content in (whole[:40], whole[:40] + bytes(4000), b"\x1aE\xdf\xa3" + bytes(60)):
        with pytest.raises(DamagedFile, match=r"clip\.mp4 is damaged"):
            Clip(content, "clip.mp4").frame(0)
    with pytest.raises(Unsupported, match="Save it as JPEG"):
        Clip(b"\0\0\0\x18ftypheic" + bytes(60), "photo.heic")
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as made:
        stream = made.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(numpy.zeros((1, 1024), numpy.float32), format="fltp", layout="mono")
        frame.rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            made.mux(packet)
    with pytest.raises(Unsupported, match="no moving pictures"):
        Clip(sound.getvalue(), "song.mp4")


def test_without_pyav_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'smidgen\[video\]'"):
        Clip(b"\0\0\0\x18ftypmp42", "clip.mp4")
