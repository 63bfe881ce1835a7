"""Keep a trained model for later trainings."""
import pickle
from pathlib import Path

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import weights_to_cpu

from mmcompress.atomic import replacing
from mmcompress.cache import (CACHE_SCHEME, cached_teacher, check_seal, damage,
                              seal)
from mmcompress.model.cached import IDENTITY, identity, place_for
from mmcompress.pruning.structure import mark_pruned
from mmcompress.registry import HOOKS


@HOOKS.register_module()
class CacheTeacherHook(Hook):
    """Writes the weights at the end of training to the cache folder.

    Students find them as ``teacher=dict(checkpoint='cache://name')``, and any
    model as ``init_cfg=dict(type='Pretrained', checkpoint='cache://name')``.
    A model of another architecture, or that was trained on other data, which
    has that name already is not overwritten: this one is then kept beside it,
    and found by students whose ``teacher.cfg`` is its config.

    Args:
        name (str | None): Name in the cache, usually that of the config. None
            to keep nothing.
        part (str | None): Only this part of the model, such as
            ``'backbone'``, with names that start below it.
    """

    def __init__(self, name: str | None, part: str | None = None) -> None:
        self.name = name
        self.part = part

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Called once, after the last step."""
        if self.name is None:
            return
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        whole, part = model, self.part or ''
        model = whole.get_submodule(part)
        # empty where the runner was not made from a config
        cfg = getattr(runner, 'cfg', None) or None
        path = place_for(self.name, cfg, model)
        if path != Path(cached_teacher(self.name)):
            runner.logger.warning(
                f'{cached_teacher(self.name)} is of another model or of other '
                f'data, and stays. A student whose teacher.cfg is this config '
                f'finds this one by cache://{self.name} all the same; give '
                'its CacheTeacherHook a `name` of its own')
        path.parent.mkdir(parents=True, exist_ok=True)
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
        state = weights_to_cpu(model.state_dict())
        mark_pruned(whole, state, part)
        names = {k: metainfo[k] for k in ('classes', 'palette')
                 if k in metainfo}  # yapf: disable
        checkpoint = dict(
            state_dict=state,
            meta=dict(dataset_meta=names, **{IDENTITY: cfg and identity(cfg)}))
        # another process may be reading
        with replacing(path) as beside:
            torch.save(seal(checkpoint), beside)
        runner.logger.info(f'The teacher is kept as {path}')


@CheckpointLoader.register_scheme(prefixes=CACHE_SCHEME)
def load_cached(name: str, map_location: str | None = None) -> dict:
    """Load a cached checkpoint, for ``init_cfg=dict(type='Pretrained')``.

    Args:
        name (str): Its name, with ``cache://`` in front.
        map_location (str | None): As of :func:`torch.load`.

    Raises:
        FileNotFoundError: If it was not trained yet.
        RuntimeError: If the file is damaged.
    """
    path = cached_teacher(name)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{name}: {path} does not exist yet; train first, with '
            '`tools/train.py`, the config whose CacheTeacherHook has the name '
            f'{name.removeprefix(CACHE_SCHEME)!r}')
    try:
        checkpoint = torch.load(
            path, map_location=map_location, weights_only=True)
    except (EOFError, LookupError, RuntimeError, ValueError,
            pickle.UnpicklingError) as error:
        what = f'it cannot be read ({str(error) or "it ends too early"})'
        raise RuntimeError(damage(path, what)) from error
    check_seal(checkpoint, path)
    return checkpoint
