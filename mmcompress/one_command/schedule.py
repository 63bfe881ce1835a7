"""How long a compressed model is trained, and how its rate changes."""
import math
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from mmcompress.model.training_images import num_training_images

# iterations below which layers have not learnt, and shares of the config's
# own epochs. Fine-tuning starts from weights that work; 1-bit and ternary
# layers learn anew, and a student learns from its teacher as long as alone.
_TUNING = 0.1, 300, 2
_LEARNING = 1.0, 2000, 1
# many times the config's own epochs help nobody
_MOST = 4
_WARM_UP = 500
_SWITCHES = 'switch_epoch', 'num_last_epochs'


@dataclass(frozen=True)
class Budget:
    """How long a training is.

    Attributes:
        epochs (int): Of the training data.
        images (int): Of an epoch.
        per_epoch (int): Iterations of an epoch.
        by_epoch (bool): As the training loop of the config counts.
        rate (float): What the learning rate of the config is multiplied by.
        why (str): What decided it, in words.
    """
    epochs: int
    images: int
    per_epoch: int
    by_epoch: bool
    rate: float
    why: str

    @property
    def iterations(self) -> int:
        return self.epochs * self.per_epoch

    def __str__(self) -> str:
        return (f'{self.epochs} epoch{"s" * (self.epochs != 1)} of '
                f'{self.images} images '
                f'({self.iterations} iterations): {self.why}')


def _own_epochs(cfg: Config, per_epoch: int) -> tuple[int, bool]:
    """Epochs of a config, and whether it counts them."""
    loop = cfg.get('train_cfg') or {}
    if loop.get('max_epochs'):
        return loop['max_epochs'], True
    if loop.get('max_iters'):
        return max(1, round(loop['max_iters'] / per_epoch)), False
    raise ValueError('the config has no `train_cfg` with max_epochs or '
                     'max_iters, so it can not be trained')


def budget(cfg: Config,
           anew: bool,
           epochs: int | None = None,
           who: str = 'layers learn anew') -> Budget:
    """A budget by the size of the data, unless one is given.

    Args:
        cfg (Config): Whole config of the user's model.
        anew (bool): Whether layers learn anew, as 1-bit ones, or a student
            does from its teacher.
        epochs (int | None): Those that the user wants.
        who (str): Which of both, in words.

    Raises:
        ValueError: If the config has no training.
        FileNotFoundError: If its data are not there.
    """
    images = num_training_images(cfg)
    batch = cfg.train_dataloader.get('batch_size') or 1
    per_epoch = max(1, math.ceil(images / batch))
    own, by_epoch = _own_epochs(cfg, per_epoch)
    share, fewest, least = _LEARNING if anew else _TUNING
    rate = 1.0 if anew else 0.1
    if epochs is not None:
        return Budget(epochs, images, per_epoch, by_epoch, rate, '--epochs')
    wanted = max(math.ceil(share * own), least, math.ceil(fewest / per_epoch))
    chosen = min(wanted, max(_MOST * own, least))
    kind = who if anew else 'trained weights are tuned'
    why = f'{kind}, the config has {own} epochs'
    if chosen != math.ceil(share * own):
        why += f', at least {fewest} iterations'
        if chosen < wanted:
            why += f' but at most {_MOST} times as many epochs'
    return Budget(chosen, images, per_epoch, by_epoch, rate, why + '. '
                  'Another number: --epochs')


def _switches(cfg: Config, epochs: int) -> list[dict] | None:
    """Hooks that do something at an epoch, moved to where it is now."""
    hooks = cfg.to_dict().get('custom_hooks')
    own = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not hooks or not own:
        return None
    # counted from the beginning, or as of YOLOX from the end
    moved = [{
        key: round(value * epochs / own) if key in _SWITCHES else value
        for key, value in hook.items()
    } for hook in hooks]
    return moved if moved != hooks else None


def training_keys(cfg: Config, plan: Budget) -> dict[str, Any]:
    """Keys of a config that trains so long: loop, rate, checkpoints.

    The rate warms up, then falls as a cosine, step by step.

    Args:
        cfg (Config): Whole config of the user's model.
        plan (Budget): How long.
    """
    total = plan.iterations
    warm_up = max(1, min(_WARM_UP, total // 10))
    # of a key that a base lacks, mmengine would keep `_delete_`
    loop = dict(_delete_=True)
    there = 'checkpoint' in (cfg.get('default_hooks') or {})
    delete = dict(_delete_=True) if there else {}
    if plan.by_epoch:
        loop.update(
            type='EpochBasedTrainLoop',
            max_epochs=plan.epochs,
            val_interval=plan.epochs)
        end = dict(
            by_epoch=True,
            end=plan.epochs,
            T_max=plan.epochs,
            convert_to_iter_based=True)
        interval = 1
    else:
        loop.update(
            type='IterBasedTrainLoop', max_iters=total, val_interval=total)
        end = dict(by_epoch=False, end=total, T_max=total)
        interval = plan.per_epoch
    keys = dict(
        train_cfg=loop,
        param_scheduler=[
            dict(
                type='LinearLR',
                start_factor=0.1,
                by_epoch=False,
                begin=0,
                end=warm_up),
            dict(type='CosineAnnealingLR', eta_min_ratio=0.01, begin=0, **end)
        ],
        default_hooks=dict(
            checkpoint=dict(
                **delete,
                type='CheckpointHook',
                interval=interval,
                by_epoch=plan.by_epoch,
                max_keep_ckpts=1)))
    hooks = _switches(cfg, plan.epochs) if plan.by_epoch else None
    if hooks:
        keys['custom_hooks'] = hooks
    return keys
