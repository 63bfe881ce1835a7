import pytest
import torch
from hooks.toy_runner import LossLog, toy_runner
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from pruning.toy_blocks import Blocks

from mmcompress.hooks import ExactResumeHook, PlainCheckpointHook, UPopHook
from mmcompress.pruning import MaskUnits, masked_units, masks_of, progress

STEPS = 16


class Masked(Blocks):
    """Blocks whose units have masks."""

    def __init__(self, **options):
        super().__init__()
        MaskUnits(**options)(self)


class MaskLog(Hook):
    """Remembers the masks after each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.masks = []

    def after_train_iter(self, runner, *args, **kwargs):
        self.masks.append(values(runner.model))


def values(model):
    return torch.cat(list(masks_of(model).values())).clone()


def gradients(model):
    return torch.cat([mask.gradient for _, mask in masked_units(model)])


def runner(tmp_path, *hooks, model=Masked, **kwargs):
    return toy_runner(
        tmp_path, hooks=hooks, val=False, model=dict(type=model), **kwargs)


def trained(tmp_path, *hooks, **kwargs):
    """Its model after the training."""
    made = runner(tmp_path, *hooks, **kwargs)
    made.train()
    return made.model


def test_masks_go_from_1_to_0(tmp_path):
    log = MaskLog()
    model = trained(tmp_path, UPopHook(.5, 5), log)
    changes = [0, *(5, 10), STEPS - 1]
    for begin, end in zip(changes, changes[1:]):
        assert all(m.equal(log.masks[begin]) for m in log.masks[begin:end])
    assert log.masks[0].eq(1).all()
    for step in changes[1:]:
        low = 1 - progress(step, STEPS, .5) / .5
        assert set(log.masks[step].unique().tolist()) == {
            torch.tensor(low).item(), 1.
        }
    assert set(values(model).tolist()) == {0., 1.}
    assert all(mask.any() for mask in masks_of(model).values())


def test_what_is_left_has_the_parameters_that_were_asked_for(tmp_path):
    model = trained(tmp_path, UPopHook(.75, 4))
    groups = masked_units(model)
    sizes = [units.parameters_per_unit(model) for units, _ in groups]
    left = sum(size * mask.value.sum()
               for size, (_, mask) in zip(sizes, groups))
    all_ = sum(size * units.num for size, (units, _) in zip(sizes, groups))
    assert abs(left / all_ - .25) < 2 * max(sizes) / all_


def test_a_resumed_search_goes_on_where_it_was(tmp_path):

    def run(folder, stop_at=None, **kwargs):
        log = LossLog(stop_at)
        made = runner(tmp_path / folder, UPopHook(.5, 3), ExactResumeHook(),
                      PlainCheckpointHook(), log, **kwargs)
        return log.train(made), made.model

    losses, whole = run('whole')
    assert len(run('begun', 10)[0]) == 10
    later, resumed = run('begun', resume=True)
    assert later == losses[8:]
    assert gradients(resumed).equal(gradients(whole))
    assert values(resumed).equal(values(whole))


def test_accumulated_gradients_are_one_step(tmp_path):
    hook, log = UPopHook(.5, 2), MaskLog()
    trained(
        tmp_path,
        hook,
        log,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=.01), accumulative_counts=3))
    # 16 iterations are 6 steps, of which the last has one iteration
    assert hook.gradients.num_steps == 6
    changed = [
        i for i in range(1, STEPS) if not log.masks[i].equal(log.masks[i - 1])
    ]
    assert changed == [8, 14, 15]


def test_clipping_leaves_the_masks_gradients(tmp_path):

    def sums(folder, **kwargs):
        optimizer = dict(type='SGD', lr=0.)
        return gradients(
            trained(
                tmp_path / folder,
                UPopHook(.5, 100),
                optim_wrapper=dict(optimizer=optimizer, **kwargs)))

    plain = sums('plain')
    for clip in (dict(max_norm=1e-3), dict(type='value', clip_value=1e-3)):
        assert sums(clip.get('type', 'norm'), clip_grad=clip).equal(plain)


def test_the_wrapper_is_left_as_it_was(tmp_path):
    made = runner(
        tmp_path,
        UPopHook(.5, 5),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=.01), clip_grad=dict(max_norm=1)))
    made.train()
    assert made.optim_wrapper.clip_func is torch.nn.utils.clip_grad_norm_


def test_without_a_share_it_does_nothing(tmp_path):
    """As the config of what it found inherits it."""
    model = trained(tmp_path, UPopHook(None, 5))
    assert values(model).eq(1).all() and gradients(model).eq(0).all()


def test_a_search_may_end_before_the_training(tmp_path):
    log = MaskLog()
    model = trained(tmp_path, UPopHook(.5, 2, total=7), log)
    assert set(log.masks[6].tolist()) == {0., 1.}
    assert values(model).equal(log.masks[6])


def test_averaged_models_have_the_masks(tmp_path):
    ema = EMAHook()
    model = trained(tmp_path, ema, UPopHook(.5, 5))
    assert values(ema.ema_model.module).equal(values(model))


def test_units_weigh_their_parameters_or_what_is_given(tmp_path):

    def weights(folder, **options):
        hook = UPopHook(.5, 5, **options)
        trained(tmp_path / folder, hook)
        return list(hook.weights.values())

    # 3 rows and biases, and a column, of 2 heads; a row, its bias, a column
    assert weights('exact') == [2 * (3 * 7 + 6), 7 + 6] * 2
    assert weights('given', attn_weight=12) == [12, 1] * 2


def test_pruning_at_once_is_a_warning(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmcompress.hooks.upop.print_log',
                        lambda message, **kwargs: said.append(message))
    trained(tmp_path / 'often', UPopHook(.5, 15))
    assert not said
    model = trained(tmp_path, UPopHook(.5, 16))
    assert 'interval=16 and 16 steps' in said[0]
    assert set(values(model).tolist()) == {0., 1.}


@pytest.mark.parametrize('options, message', [
    (dict(p=1., interval=1), 'p must be between 0 and 1, got 1.0'),
    (dict(p=.5, interval=0), 'interval must be positive, got 0'),
    (dict(p=.5, interval=1, total=0), 'total must be positive, got 0'),
    (dict(p=.5, interval=1, attn_weight='official'), "got 'official'"),
])
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        UPopHook(**options)


class Frozen(Masked):

    def __init__(self):
        super().__init__()
        self.blocks[2].k.requires_grad_(False)


class Lowered(Masked):

    def __init__(self):
        super().__init__()
        masks_of(self)['blocks.1'][0] = 0


@pytest.mark.parametrize('model, options, message', [
    (Blocks, {}, 'no masks.*mmcompress.MaskUnits'),
    (Frozen, {}, r"exclude=\['blocks\.2'\]"),
    (Lowered, {}, 'load_from is one of another search'),
    (Masked, dict(total=17), 'total=17 steps, but the training only 16'),
])
def test_what_can_not_be_searched_is_an_error(model, options, message,
                                              tmp_path):
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, UPopHook(.5, 5, **options), model=model)


class Stepless(OptimWrapper):

    def step(self, **kwargs):
        """Do nothing."""


def test_an_optimizer_that_makes_no_step_is_an_error(tmp_path):
    wrapper = dict(type=Stepless, optimizer=dict(type='SGD', lr=.01))
    with pytest.raises(RuntimeError, match='Stepless made no step'):
        trained(tmp_path, UPopHook(.5, 5), optim_wrapper=wrapper)


def test_several_optimizers_are_an_error(tmp_path):
    made = runner(tmp_path, UPopHook(.5, 5))
    optimizer = torch.optim.SGD(made.model.parameters(), .01)
    made.optim_wrapper = OptimWrapperDict(a=OptimWrapper(optimizer))
    with pytest.raises(
            ValueError, match='one optimizer, got OptimWrapperDict'):
        made.train()
