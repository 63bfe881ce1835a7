"""How long is trained follows from the data, and any loop can be told."""
import pytest
from mmengine.config import Config

from mmcompress.one_command import schedule
from mmcompress.one_command.schedule import budget, training_keys


@pytest.fixture
def images(monkeypatch):
    """Sets how many images the training data has."""

    def set_to(num):
        monkeypatch.setattr(schedule, 'num_training_images', lambda cfg: num)

    return set_to


def _config(batch=2, **loop) -> Config:
    return Config(
        dict(
            train_cfg=loop,
            train_dataloader=dict(batch_size=batch, dataset=dict(type='A')),
            default_hooks=dict(checkpoint=dict(interval=1, save_best='x'))))


@pytest.mark.parametrize('num, own, anew, epochs', [
    (100_000, 12, False, 2),
    (100_000, 12, True, 12),
    (1_000, 100, False, 10),
    (160, 12, False, 4),
    (160, 12, True, 25),
    (20, 12, True, 48),
])
def test_small_data_are_seen_more_often(images, num, own, anew, epochs):
    images(num)
    plan = budget(_config(max_epochs=own), anew)
    assert plan.epochs == epochs
    assert plan.iterations == epochs * -(-num // 2)


def test_what_the_user_says_counts(images):
    images(10)
    assert budget(_config(max_epochs=12), True, epochs=3).epochs == 3


def test_the_budget_in_words(images):
    images(100)
    cfg = _config(max_epochs=12)
    assert str(budget(
        cfg, True,
        epochs=1)) == ('1 epoch of 100 images (50 iterations): --epochs')
    said = str(budget(cfg, True, who='a student learns as long as alone'))
    assert said.startswith('40 epochs of 100 images (2000 iterations): a stud')


def test_loops_of_iterations_stay_such(images):
    images(100)
    cfg = _config(max_iters=5000)
    plan = budget(cfg, True)
    keys = training_keys(cfg, plan)
    assert plan.epochs == 100 and not plan.by_epoch
    assert keys['train_cfg']['max_iters'] == 5000
    assert keys['param_scheduler'][-1]['end'] == 5000
    assert keys['default_hooks']['checkpoint']['interval'] == 50


def test_no_training_is_said(images):
    images(10)
    with pytest.raises(ValueError, match='max_epochs or max_iters'):
        budget(_config(), True)


def test_switches_move_with_the_end(images):
    images(1000)
    cfg = _config(max_epochs=300)
    cfg.custom_hooks = [
        dict(type='EMAHook'),
        dict(type='PipelineSwitchHook', switch_epoch=280),
        dict(type='YOLOXModeSwitchHook', num_last_epochs=15)
    ]
    keys = training_keys(cfg, budget(cfg, False))
    assert keys['train_cfg']['max_epochs'] == 30
    assert [h.get('switch_epoch')
            for h in keys['custom_hooks']] == [None, 28, None]
    assert keys['custom_hooks'][-1]['num_last_epochs'] == 2
    assert cfg.custom_hooks[1].switch_epoch == 280
