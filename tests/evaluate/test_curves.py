"""Speed by depth and by answers at once: on a tiny real file, in torch, and behind a real server."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import EngineFailed, InvalidInput
from smidgen.evaluate.curves import Asked, depth_curve, measure_curves
from smidgen.evaluate.streams import Round, Streams, Timed, measure_streams, prompt_of
from smidgen.inference.engine import Chunk, open_engine
from smidgen.inference.engines.echo import Echo
from smidgen.inference.options import GenerationOptions

Running = runpy.run_path(str(Path(__file__).parents[1] / "serving" / "conftest.py"))["Running"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = Running(tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


def test_a_file_is_measured_at_depths_and_with_answers_at_once(source: Any) -> None:
    (found,) = measure_curves(str(source.path), asked=Asked((0, 128, 4096), (1, 2)), threads=1)
    assert found.engine == "llama_cpp" and [each.depth for each in found.depths] == [0, 128]
    assert found.depths[0].read is None and found.depths[1].read is not None and found.depths[1].read.runs == 3
    assert all(each.write.low > 0 for each in found.depths)
    assert "512 tokens ends before" in found.notes[0]
    assert [(each.streams, each.ttft_ms.runs) for each in found.streams] == [(1, 3), (2, 6)]
    for each in found.streams:
        assert 0 < each.ttft_ms.p50 <= each.ttft_ms.p95 <= each.ttft_ms.p99 <= each.end_to_end_ms.p99
        assert 1 <= each.tokens <= 32
    assert found.energy is not None and found.energy.tokens == 3 * 32  # those after an empty prompt alone
    assert found.to_dict()["streams"][1]["tokens_per_second"]["median"] > 0


def test_a_server_is_measured_by_what_its_answers_take(server: Any) -> None:
    (found,) = measure_curves(f"{server.address}/echo", asked=Asked((0, 64), (1, 3)))
    assert [each.streams for each in found.streams] == [1, 3]
    assert found.streams[1].ttft_ms.runs == 9 and found.streams[1].tokens == 24
    # A word is a token of the engine behind this server, which counts the prompt's.
    assert found.depths[0].depth == 0 and 55 < found.depths[1].depth < 70
    assert found.energy is None and "network" in found.notes[0]


def test_answers_at_once_overlap_and_are_counted_by_the_engine() -> None:
    together = threading.Barrier(3, timeout=20)

    class Waiting(Echo):
        """An echo whose answers all wait for each other."""

        def complete(self, prompt: str, options: GenerationOptions) -> Generator[Chunk, None, None]:
            """Answer once as many others have begun."""
            together.wait()
            yield from super().complete(prompt, options)

    found = measure_streams(Waiting(), [prompt_of(16, number) for number in range(3)], 5)
    assert [answer.tokens for answer in found.answers] == [5, 5, 5] and found.tokens == 15
    assert all(len(answer.between) == 4 for answer in found.answers)


def test_rounds_are_summarised_over_all_their_answers() -> None:
    answers = tuple(Timed(first, 1.0, (0.1, 0.3), 10, 8) for first in (0.1, 0.2, 0.3, 0.4))
    found = Streams.of(2, [Round(answers[:2], 2.0), Round(answers[2:], 4.0)])
    assert (found.tokens_per_second.low, found.tokens_per_second.high) == (5.0, 10.0)
    assert found.ttft_ms.p50 == pytest.approx(250) and found.between_tokens_ms.p50 == pytest.approx(200)
    assert answers[0].per_token == pytest.approx(0.1)


def test_an_engine_that_writes_nothing_has_no_speed() -> None:
    with open_engine("echo") as engine, pytest.raises(EngineFailed, match="wrote nothing"):
        measure_streams(engine, [""], 4)


def test_torch_is_measured_too(source: Any, tmp_path: Path) -> None:
    from smidgen.inference.scoring import Subject

    (found,) = depth_curve(Subject(source.path, "torch"), [64], threads=1)
    assert found.depth == 64 and found.write.median > 0 and found.read is not None


@pytest.mark.parametrize(("depths", "streams"), [((-1,), (1,)), ((0,), (0,)), ((0,), (1000,))])
def test_points_that_cannot_be_are_refused(depths: tuple[int, ...], streams: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="cannot be measured"):
        Asked(depths, streams)
