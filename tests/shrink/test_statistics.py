import copy

import pytest
import torch

from smidgen import machine
from smidgen.errors import DamagedFile, InvalidInput, OutOfResources, ReferenceNotFound
from smidgen.shrink import statistics
from smidgen.shrink.precision import autocast
from smidgen.shrink.statistics import Statistics, collect


def inputs_of(model, windows, path):
    """What a linear layer reads, by a hook of the test's own, ``[windows, length, width]``."""
    seen = []
    handle = model.module.get_submodule(path).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad(), autocast():
        for window in windows.split(2):
            model.module(input_ids=window, use_cache=False)
    handle.remove()
    return torch.cat(seen).double()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_every_site_holds_what_its_layers_read(tiny_model, windows, family):
    model = tiny_model(family)
    found = collect(model, windows, hessians=True, batch=2)
    sites = list(model.anatomy.sites())
    assert set(found.hessian) == {site.name for site in sites} and len(sites) == 3 * 4 + 1
    for site in sites:
        values = inputs_of(model, windows, site.modules[-1])
        flat = values.flatten(0, 1)
        absolute = torch.stack([window.abs().mean(0) for window in values]).norm(dim=0)
        hessian = flat.T @ flat / len(flat)
        for got, expected in [
            (found.mean[site.name], flat.mean(0)),
            (found.second_moment[site.name], (flat**2).mean(0)),
            (found.mean_absolute[site.name], absolute),
            (found.hessian[site.name], hessian),
        ]:
            torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            found.hessian[site.name].diag(), found.second_moment[site.name], rtol=1e-5, atol=1e-6
        )
    assert (found.tokens, found.windows) == (windows.numel(), len(windows))


def test_block_figures_are_those_of_the_residual_stream(tiny_model, windows):
    model = tiny_model()
    found = collect(model, windows, sites=(), batch=len(windows))
    with torch.no_grad(), autocast():
        states = list(model.module(input_ids=windows, output_hidden_states=True, use_cache=False).hidden_states)
    for index in range(2):  # the last of them is normed, and no block's output
        before, after = states[index].double(), states[index + 1].double()
        cosine = (before * after).sum(-1) / before.norm(dim=-1) / after.norm(dim=-1)
        assert found.block_influence[index] == pytest.approx(float(1 - cosine.mean()), rel=1e-4)
        assert found.residual_norm[index] == pytest.approx(float(before.norm(dim=-1).mean()), rel=1e-4)
    assert found.block_influence.shape == (3,) and found.residual_norm.shape == (4,)
    assert not (found.mean or found.second_moment or found.mean_absolute or found.hessian)


def test_the_size_of_a_batch_does_not_matter(tiny_model, windows):
    model = tiny_model()
    one, all_at_once = (collect(model, windows, hessians=True, batch=batch) for batch in (1, 6))
    for kind in ("mean", "second_moment", "mean_absolute", "hessian"):
        for site, values in getattr(one, kind).items():
            torch.testing.assert_close(values, getattr(all_at_once, kind)[site], rtol=1e-2, atol=1e-3)


def test_the_model_is_left_as_it_was(tiny_model, windows):
    model = tiny_model()
    model.module.train()
    model.module.model.norm.eval()
    before = copy.deepcopy(model.module.state_dict())

    class StopError(Exception):
        pass

    def stop(event):
        if event.done:
            raise StopError

    collect(model, windows, batch=2)
    with pytest.raises(StopError):
        collect(model, windows, batch=2, progress=stop)
    for module in model.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert model.module.training and not model.module.model.norm.training
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())


def test_progress_counts_the_batches(tiny_model, windows):
    events = []
    collect(tiny_model(), windows, sites=(), batch=4, progress=events.append)
    assert [(event.done, event.total) for event in events] == [(0, 2), (1, 2), (2, 2)]


def test_saved_statistics_come_back_and_files_are_repeatable(tiny_model, windows, tmp_path):
    found = collect(tiny_model(), windows, sites=["model.layers.1.mlp_hidden", "head"], hessians=True)
    found.save(tmp_path / "one")
    found.save(tmp_path / "two")
    again = Statistics.load(tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (again.tokens, again.windows) == (found.tokens, found.windows)
    assert torch.equal(again.block_influence, found.block_influence)
    assert torch.equal(again.residual_norm, found.residual_norm)
    for kind in ("mean", "second_moment", "mean_absolute", "hessian"):
        ours, theirs = getattr(found, kind), getattr(again, kind)
        assert ours.keys() == theirs.keys() and len(ours) == 2
        assert all(torch.equal(ours[site], theirs[site]) for site in ours)


def test_a_damaged_file_is_refused(tiny_model, windows, tmp_path):
    path = tmp_path / "statistics.safetensors"
    collect(tiny_model(), windows, sites=()).save(path)
    whole = path.read_bytes()
    for length in (0, 5, 60, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile):
            Statistics.load(path)
    path.write_bytes(whole.replace(b'\\"format\\": 3', b'\\"format\\": 9'))
    with pytest.raises(DamagedFile, match="another version"):
        Statistics.load(path)
    with pytest.raises(ReferenceNotFound):
        Statistics.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.zeros(0, 8, dtype=torch.long), "shape"),
        (torch.zeros(8, dtype=torch.long), "shape"),
        (torch.full((1, 4), 400), "token id 400"),
        (torch.full((1, 4), -1), "token id -1"),
        (torch.zeros(1, 257, dtype=torch.long), "257 tokens"),
    ],
)
def test_windows_that_cannot_be_read_are_refused(tiny_model, bad, said):
    with pytest.raises(InvalidInput, match=said):
        collect(tiny_model(), bad)


def test_an_unknown_site_names_the_nearest(tiny_model, windows):
    with pytest.raises(ReferenceNotFound, match=r"Did you mean 'model\.layers\.0\.mlp_hidden'"):
        collect(tiny_model(), windows, sites=["model.layers.0.mlp_hiden"])


def test_hessians_that_do_not_fit_are_refused_before_anything_runs(tiny_model, windows, monkeypatch):
    model = tiny_model()
    needed = statistics.hessian_bytes(model.anatomy)
    assert needed == 4 * (3 * (64**2 * 3 + 128**2) + 64**2)
    assert statistics.hessian_bytes(model.anatomy, ["head"]) == 4 * 64**2
    monkeypatch.setattr(machine, "memory", lambda: (needed, needed - 1))
    with pytest.raises(OutOfResources, match="fewer sites"):
        collect(model, windows, hessians=True)
    assert collect(model, windows, hessians=False).tokens == windows.numel()
