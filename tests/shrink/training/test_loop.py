import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from smidgen.errors import InvalidInput
from smidgen.shrink.training.checkpoints import STATE, Checkpoints, fingerprint
from smidgen.shrink.training.loop import Training, measure_throughput, train, trainable_names

SETTINGS = Training(steps=12, learning_rate=3e-3, batch_size=2, evaluate_every=3, patience=0)


def cross_entropy(ids):
    def loss(module, rows, step):
        chosen = ids[rows]
        logits = module(input_ids=chosen, use_cache=False).logits[:, :-1].float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), chosen[:, 1:].flatten()), chosen[:, 1:].numel()

    return loss


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Stop(Exception):
    pass


def stopping_at(step):
    def progress(event):
        if event.done == step:
            raise Stop

    return progress


@pytest.fixture
def trained(tiny_model, windows):
    """Trains a fresh tiny model and returns its module and result."""

    def run(settings=SETTINGS, held_out=True, module=None, **options):
        module = module or tiny_model(attention_dropout=0.1, num_hidden_layers=2).module
        evaluate = None
        if held_out:
            held = cross_entropy(windows[4:])
            evaluate = lambda module: held(module, torch.arange(2), 0)[0]  # noqa: E731
        return module, train(module, 4, cross_entropy(windows), settings, evaluate=evaluate, **options)

    return run


def test_training_lowers_the_loss_and_reports_it(trained):
    events = []
    _, result = trained(Training(steps=30, learning_rate=3e-3, batch_size=4), held_out=False, progress=events.append)
    assert result.curves.training[0][1] > 0 and result.steps == 30 and result.tokens == 30 * 4 * 31
    losses = [float(event.note.split()[1].rstrip(",")) for event in events]
    assert losses[-1] < 0.6 * losses[0]
    assert [event.done for event in events] == list(range(1, 31)) and events[0].total == 30
    assert "tokens/s" in events[-1].note and result.tokens_per_second > 0


def test_the_same_call_gives_the_same_weights_whatever_the_global_seed(trained, tiny_model):
    modules = [tiny_model(attention_dropout=0.1, num_hidden_layers=2).module for _ in range(2)]
    for seed, module in enumerate(modules, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trained(module=module)
        assert torch.equal(before, torch.get_rng_state())
    first, second = modules
    assert same(first.state_dict(), second.state_dict())
    third, _ = trained(Training(**{**SETTINGS.__dict__, "seed": 1}))
    assert not same(first.state_dict(), third.state_dict())


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_a_stopped_training_goes_on_to_the_same_weights(trained, tmp_path, step):
    whole, expected = trained()
    with pytest.raises(Stop):
        trained(checkpoints=Checkpoints(tmp_path, "a"), progress=stopping_at(step))
    notes = []
    module, result = trained(checkpoints=Checkpoints(tmp_path, "a"), progress=lambda event: notes.append(event.done))
    assert notes[0] == step + 1
    assert same(whole.state_dict(), module.state_dict()) and result.curves == expected.curves


def test_dropout_makes_the_test_above_mean_something(trained, tiny_model):
    module, _ = trained(module=tiny_model(num_hidden_layers=2).module)
    assert not same(module.state_dict(), trained()[0].state_dict())


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_checkpoint_that_does_not_fit_is_left_behind_and_said(trained, tmp_path, damage):
    whole, _ = trained()
    with pytest.raises(Stop):
        trained(checkpoints=Checkpoints(tmp_path, "a"), progress=stopping_at(5))
    if damage == "cut":
        (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-100])
    notes = []
    key = "a" if damage == "cut" else "b"
    module, _ = trained(checkpoints=Checkpoints(tmp_path, key), progress=lambda event: notes.append(event.note))
    assert "starting anew" in notes[0] and ("damaged" if damage == "cut" else "another") in notes[0]
    assert same(whole.state_dict(), module.state_dict())


def test_checkpoints_come_by_steps_and_leave_no_litter(trained, tmp_path):
    seen = []

    def progress(event):
        seen.append((tmp_path / STATE).is_file())

    (tmp_path / ".tmp-left").write_bytes(b"x")
    (tmp_path / "mine.txt").write_text("kept")
    kept = Checkpoints(tmp_path, "a", steps=4)
    trained(checkpoints=kept, progress=progress)
    assert seen == [False] * 4 + [True] * 8
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3 and {"mine.txt", STATE} < names
    kept.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_best_weights_on_held_out_rows_are_returned(trained, windows):
    settings = Training(steps=40, learning_rate=1e-2, batch_size=4, evaluate_every=2, patience=3)
    module, result = trained(settings)
    lowest = min(loss for _, loss in result.curves.held_out)
    assert dict(result.curves.held_out)[result.curves.best_step] == lowest
    with torch.no_grad():
        again = float(cross_entropy(windows[4:])(module.eval(), torch.arange(2), 0)[0])
    assert again == pytest.approx(lowest, abs=0.02)
    assert result.curves.stopped_early and result.steps < 40  # random text: nothing carries over to other rows
    assert result.steps == result.curves.best_step + 6


def test_accumulated_parts_equal_one_batch(tiny_model, windows, monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)
    results = []
    for accumulation in (1, 3):
        module = tiny_model(num_hidden_layers=2).module
        settings = Training(steps=3, learning_rate=1e-3, batch_size=6, accumulation=accumulation, clip=0.1)
        train(module, 6, cross_entropy(windows), settings)
        results.append(module.state_dict())
    for name, tensor in results[0].items():
        assert torch.allclose(tensor, results[1][name], atol=2e-5), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_norms_move_when_asked_and_types_and_flags_come_back(tiny_model, windows, dtype):
    module = tiny_model(num_hidden_layers=2, dtype=dtype).module
    before = state_of(module)
    train(module, 6, cross_entropy(windows), Training(steps=5, learning_rate=3e-2, trainable="norms"))
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, before[name]) != ("norm" in name), name
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert not module.training


def test_patterns_choose_by_name_and_nothing_is_refused(tiny_model):
    module = tiny_model().module
    assert trainable_names(module, ("*.0.mlp.*",)) == [
        f"model.layers.0.mlp.{name}_proj.weight" for name in ("gate", "up", "down")
    ]
    assert len(trainable_names(module, "norms")) == 7
    with pytest.raises(InvalidInput, match="patterns"):
        trainable_names(module, "nothing")


def test_measuring_throughput_changes_nothing(tiny_model, windows):
    module = tiny_model().module
    before = state_of(module)
    assert measure_throughput(module, 6, cross_entropy(windows), SETTINGS) > 0
    assert same(before, module.state_dict())


def test_a_loss_that_is_no_number_is_said(tiny_model, windows):
    def loss(module, rows, step):
        value, tokens = cross_entropy(windows)(module, rows, step)
        return value * (float("nan") if step == 2 else 1), tokens

    with pytest.raises(InvalidInput, match=r"step 3.*learning rate"):
        train(tiny_model().module, 6, loss, SETTINGS)


def test_settings_are_checked():
    for wrong in ({"steps": 0}, {"learning_rate": -1.0}, {"batch_size": 2, "accumulation": 3}, {"warmup": 2}):
        with pytest.raises(InvalidInput):
            Training(**{"steps": 3, **wrong})
    with pytest.raises(InvalidInput, match="nothing to train"):
        train(torch.nn.Linear(2, 2), 0, lambda *_: None, SETTINGS)


def test_weight_decay_leaves_vectors_alone():
    layer = torch.nn.Linear(3, 3)
    before = state_of(layer)
    loss = lambda module, rows, step: (sum(each.sum() for each in module.parameters()) * 0, 1)  # noqa: E731
    train(layer, 1, loss, Training(steps=1, learning_rate=0.1, warmup=0, batch_size=1, weight_decay=0.5))
    assert torch.equal(layer.bias, before["bias"])
    assert torch.allclose(layer.weight, before["weight"] * 0.95)


KILLED = """
import sys, runpy, torch
from smidgen.shrink.training.checkpoints import Checkpoints
from smidgen.shrink.training.loop import Training, train
from pathlib import Path
torch.set_num_threads(1)
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Dropout(0.2), torch.nn.Tanh(), torch.nn.Linear(256, 64))
data = torch.randn(40, 64)
def loss(module, rows, step):
    return (module(data[rows]) - data[rows].roll(1, 1)).square().mean(), len(rows)
def evaluate(module):
    return float((module(data) - data.roll(1, 1)).square().mean())
folder = Path(sys.argv[1])
kept = Checkpoints(folder / "kept", "k", seconds=0.0)
settings = Training(steps=int(sys.argv[2]), learning_rate=1e-2, batch_size=4, evaluate_every=5, patience=0)
print("started", flush=True)
train(module, 40, loss, settings, checkpoints=kept, evaluate=evaluate)
torch.save(module.state_dict(), folder / "result.pt")
"""


def test_killed_at_any_moment_it_ends_in_the_same_weights(tmp_path):
    script, steps = tmp_path / "train.py", "100"
    script.write_text(KILLED)
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    for folder in (calm, rough):
        folder.mkdir()
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(calm), steps], check=True, env=environment, capture_output=True)
    generator, kills = random.Random(3), 0
    for _ in range(20):
        process = subprocess.Popen([*command, str(rough), steps], env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"started\n"
        if kills < 2:
            wait_for(rough / "kept" / STATE, process)
            time.sleep(generator.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        if code == 0:
            break
        kills += 1
    assert kills >= 1 and code == 0
    one, two = (torch.load(folder / "result.pt", weights_only=True) for folder in (calm, rough))
    assert same(one, two)


def wait_for(path: Path, process):
    while not path.is_file() and process.poll() is None:
        time.sleep(0.005)


def test_a_fingerprint_changes_with_any_weight(tiny_model):
    model = tiny_model()
    before = fingerprint(model.module)
    assert before == fingerprint(tiny_model().module)
    model.weight("model.norm.weight").data[5] += 1e-6
    assert fingerprint(model.module) != before
    assert fingerprint(tiny_model(dtype=torch.bfloat16).module) != before


def test_zeros_of_matrices_stay_where_they_are_to_be_kept(trained, tiny_model):
    from dataclasses import replace

    def module():
        found = tiny_model(num_hidden_layers=2).module
        with torch.no_grad():
            found.model.layers[0].mlp.up_proj.weight[::2, ::3] = 0
        return found

    kept, _ = trained(replace(SETTINGS, keep_zeros=True), module=module())
    lost, _ = trained(SETTINGS, module=module())
    weights = [each.model.layers[0].mlp.up_proj.weight for each in (kept, lost)]
    assert not weights[0][::2, ::3].any() and weights[1][::2, ::3].all()
    assert weights[0][1::2].ne(module().model.layers[0].mlp.up_proj.weight[1::2]).any()
