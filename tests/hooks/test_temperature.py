import pytest
import torch
from hooks.toy_runner import LossLog, ToyModel, toy_runner
from mmengine.hooks import Hook

from mmcompress.hooks import ExactResumeHook, TemperatureHook
from mmcompress.hooks.temperature import soft_difference
from mmcompress.quantization import QNActivation, QNWeight, QuantLinear


class Quantized(ToyModel):
    """Its layer is quantized."""

    def __init__(self, activation=True):
        super().__init__()
        act = dict(type='QNActivation', bits=2) if activation else None
        QuantLinear.swap(self.linear, dict(type='QNWeight', bits=2), act)


class Around(ToyModel):
    """A model that has the quantized one as a part."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Sequential(self.linear)
        QuantLinear.swap(self.linear[0], dict(type='QNWeight', bits=2), None)


class TemperatureLog(Hook):
    """Remembers the temperatures of each iteration."""

    priority = 'LOW'

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.seen.append(
            tuple(
                float(m.temperature) for m in runner.model.modules()
                if isinstance(m, (QNWeight, QNActivation))))


def run(folder, *hooks, loop='epoch', stop_at=None, model=Quantized, **kwargs):
    """Losses and temperatures of a training, and its model."""
    losses, temperatures = LossLog(stop_at), TemperatureLog()
    runner = toy_runner(
        folder,
        loop, [*hooks, losses, temperatures,
               ExactResumeHook()],
        model=dict(type=model) if isinstance(model, type) else model,
        val=False,
        **kwargs)
    return losses.train(runner), temperatures.seen, runner.model


def test_they_rise_every_epoch(tmp_path):
    _, seen, _ = run(tmp_path, TemperatureHook(step_w=20, step_a=10))
    assert seen == [(20. * e, 10. * e) for e in (1, 2, 3, 4) for _ in range(4)]


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_or_after_some_iterations(tmp_path, loop):
    hook = TemperatureHook(step_w=2, step_a=1, interval=8)
    _, seen, _ = run(tmp_path, hook, loop=loop)
    assert seen == 8 * [(2., 1.)] + 8 * [(4., 2.)]


@pytest.mark.parametrize(('loop', 'interval', 'stop_at'), [('epoch', None, 10),
                                                           ('epoch', 3, 10),
                                                           ('iter', 3, 10)])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, loop, interval,
                                                stop_at):

    def part(folder, **kwargs):
        hook = TemperatureHook(step_w=20, step_a=10, interval=interval)
        return run(tmp_path / folder, hook, loop=loop, **kwargs)

    losses, seen, model = part('whole')
    first = part('parts', stop_at=stop_at)
    # the checkpoint is of iteration 8
    second = part('parts', resume=True)
    assert first[0][:8] + second[0] == losses
    assert first[1][:8] + second[1] == seen
    for key, value in model.state_dict().items():
        assert torch.equal(second[2].state_dict()[key], value), key


def test_they_are_in_the_checkpoint(tmp_path):
    run(tmp_path, TemperatureHook(step_w=20, step_a=10))
    state = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)
    assert state['state_dict']['linear.weight_quant.temperature'] == 60
    assert state['state_dict']['linear.input_quant.temperature'] == 30


def test_the_second_phase_goes_on_from_the_weights_of_the_first(tmp_path):
    weights_only = dict(type=Quantized, activation=False)
    _, seen, first = run(
        tmp_path / 'a', TemperatureHook(step_w=20), model=weights_only)
    assert seen[-1] == (80., )
    frozen = dict(optimizer=dict(type='SGD', lr=0.))
    _, seen, second = run(
        tmp_path / 'b',
        TemperatureHook(step_w=10, step_a=10),
        load_from=str(tmp_path / 'a' / 'epoch_4.pth'),
        optim_wrapper=frozen)
    assert seen[0] == (10., 10.)
    for key, value in first.linear.state_dict().items():
        if 'temperature' not in key:
            assert torch.equal(second.linear.state_dict()[key], value), key


def test_quantizers_are_found_inside_of_other_models(tmp_path):
    _, seen, _ = run(tmp_path, TemperatureHook(step_w=5), model=Around)
    assert seen[0] == (5., )


def test_the_log_has_them(tmp_path):
    runner = toy_runner(
        tmp_path,
        'epoch', [TemperatureHook(step_w=20, step_a=10)],
        model=dict(type=Quantized),
        val=False)
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert scalars['train/temperature_w'].current() == 80
    assert scalars['train/temperature_a'].current() == 40


def test_training_and_evaluation_differ_less_at_a_higher_temperature():
    model = Quantized(activation=False)
    assert soft_difference(model) is None
    quantizer = model.linear.weight_quant
    quantizer.initialize(model.linear.weight)
    differences = []
    for temperature in (5, 50, 500):
        quantizer.set_temperature(temperature)
        differences.append(soft_difference(model))
    assert differences == sorted(differences, reverse=True)
    expected = (quantizer(model.linear.weight) -
                quantizer.eval()(model.linear.weight)).abs().sum()
    total = quantizer(model.linear.weight).abs().sum()
    assert differences[-1] == pytest.approx(float((expected / total).detach()))


@pytest.mark.parametrize(('steps', 'match'), [
    (dict(step_w=10), 'step_a=10'),
    (dict(step_a=10), 'step_w=10'),
],
                         ids=['no step_a', 'no step_w'])
def test_quantizers_without_a_step_are_refused_in_words(
        tmp_path, steps, match):
    with pytest.raises(ValueError, match=match):
        run(tmp_path, TemperatureHook(**steps))


def test_a_step_without_quantizers_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match='no QNActivation: leave out step_a'):
        run(tmp_path, TemperatureHook(step_w=10, step_a=10), model=Around)


def test_a_loop_over_iterations_needs_an_interval(tmp_path):
    with pytest.raises(ValueError, match='interval=1000'):
        run(tmp_path, TemperatureHook(step_w=10, step_a=10), loop='iter')


@pytest.mark.parametrize(
    'kwargs', [dict(step_w=0),
               dict(step_a=-1.),
               dict(step_w=1, interval=0)],
    ids=str)
def test_what_is_not_positive_is_refused_in_words(kwargs):
    with pytest.raises(ValueError, match='must be positive, got'):
        TemperatureHook(**kwargs)


def test_a_training_without_the_hook_is_refused_in_words(tmp_path):
    with pytest.raises(RuntimeError, match='TemperatureHook'):
        run(tmp_path)
