"""Does a checkpoint fit a model: the one place that answers it."""
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch.nn as nn
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mmcompress.cache import check_seal
from mmcompress.pruning.structure import PrunedTensor, plain_tensor
from .data import class_names

# what of a trained model's weights belongs to its distillation
DISTILLER = 'distill.'
# where files have weights; mmengine's averages stand under `state_dict`, and
# those alone that are only an average's elsewhere
_ENTRIES = ('state_dict', 'ema_state_dict', 'model', 'net')
# of averages, how many steps they are of
_COUNTERS = ('steps', 'n_averaged')


def is_plain(key: str) -> bool:
    """Whether a weight is the model's own, not its distillation's."""
    return not key.startswith(DISTILLER)


def weights_of(checkpoint: Mapping) -> dict[str, Tensor]:
    """The weights in a checkpoint, however it wraps them.

    Args:
        checkpoint (Mapping): As it was read: weights, or a dict with them
            under ``state_dict``, ``ema_state_dict``, ``model`` or ``net``.
            ``module.`` in front, from a parallel wrapper or an average, is
            taken away.
    """
    for entry in _ENTRIES:
        if isinstance(checkpoint.get(entry), Mapping):
            checkpoint = checkpoint[entry]
            break

    def plain(key: str) -> str:
        return re.sub(r'^(module(\.|$))+', '', key)

    weights = OrderedDict(
        (plain(key), plain_tensor(value)) for key, value in checkpoint.items()
        if isinstance(value, (Tensor, PrunedTensor)) and key not in _COUNTERS)
    # the versions by which modules know what to rename
    versions = getattr(checkpoint, '_metadata', None)
    if versions is not None:
        weights._metadata = {plain(k): v for k, v in versions.items()}
    return weights


def plain_weights(checkpoint: Mapping) -> dict[str, Tensor]:
    """The same, without what belongs to a distillation."""
    weights = weights_of(checkpoint)
    for key in [key for key in weights if not is_plain(key)]:
        del weights[key]
    return weights


def read_checkpoint(path: str) -> dict:
    """Read a file, URL or ``cache://name`` into main memory.

    Raises:
        RuntimeError: If it is a cached teacher, and damaged.
        TypeError: If something else than a checkpoint was saved.
    """
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f'{path} is no checkpoint: it has a '
                        f'{type(checkpoint).__name__}, not a dict of weights')
    check_seal(checkpoint, path)
    return checkpoint


def classes_of(checkpoint: Mapping) -> list[str] | None:
    """What the labels of a trained model mean; None where it doesn't say.

    Args:
        checkpoint (Mapping): As it was read. Of pose estimators, the names of
            the keypoints.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return None
    data = meta.get('dataset_meta')
    # before mmengine, they stood beside it
    return class_names(data if isinstance(data, Mapping) else meta)


@dataclass
class Fit:
    """How a checkpoint fits a model.

    Attributes:
        missing (list[str]): What only the model has.
        left_over (list[str]): What only the checkpoint has.
        mismatched (list[str]): A line for each weight of another shape.
    """
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def but(self, ignore: Iterable[str] = ()) -> 'Fit':
        """Without what doesn't matter.

        Counters of batches are not in checkpoints of old, and nothing of our
        models reads them.

        Args:
            ignore (Iterable[str]): Regular expressions of further names that
                may be missing or left over, matched from their start.
        """
        patterns = [r'(.*\.)?num_batches_tracked$', *ignore]

        def matters(key: str) -> bool:
            return not any(re.match(pattern, key) for pattern in patterns)

        return replace(
            self,
            missing=list(filter(matters, self.missing)),
            left_over=list(filter(matters, self.left_over)))

    def __str__(self) -> str:
        """What doesn't fit, on one line; empty if all does."""
        found = []
        if self.mismatched:
            found.append(f'shapes differ: {_first(self.mismatched)}')
        found += [
            f'{len(names)} keys {what}, such as {_first(names)}'
            for what, names in (('missing', self.missing),
                                ('left over', self.left_over)) if names
        ]
        return '; '.join(found)


def _first(names: list[str]) -> str:
    return ', '.join(name.strip().rstrip('.') for name in names[:3])


def compare(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Fit:
    """How weights fit others, by names and shapes.

    A model that renames or reshapes weights while it loads them knows better:
    :func:`fill` asks it.

    Args:
        wanted (Mapping): Of the model.
        given (Mapping): Of the checkpoint, see :func:`weights_of`.
    """
    return Fit([key for key in wanted if key not in given],
               [key for key in given if key not in wanted], [
                   f'{key}: {tuple(given[key].shape)} in the checkpoint, '
                   f'{tuple(value.shape)} in the model'
                   for key, value in wanted.items()
                   if key in given and given[key].shape != value.shape
               ])


class FirstLoad:
    """What a module says of the first state dict that it loads.

    It says so after it has renamed what it renames, as models of mmdet do.

    Args:
        module (nn.Module): The module.

    Attributes:
        fit (Fit): What it said.
        done (bool): Whether it has loaded anything.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.fit = Fit()
        self.done = False
        self._handles = [
            module.register_load_state_dict_pre_hook(self._begin),
            module.register_load_state_dict_post_hook(self._end)
        ]

    def _begin(self, module: nn.Module, state_dict: dict, prefix: str,
               local_metadata: dict, strict: bool, missing: list[str],
               unexpected: list[str], errors: list[str]) -> None:
        """Keep the lists, which are filled from now on."""
        if not self.done:
            self.fit = Fit(missing, unexpected, errors)

    def _end(self, module: nn.Module, incompatible_keys: tuple) -> None:
        """Copy the lists, to which mmengine adds sentences later."""
        if not self.done:
            self.fit = Fit(*(list(names) for names in (self.fit.missing,
                                                       self.fit.left_over,
                                                       self.fit.mismatched)))
            self.done = True

    def stop(self) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> Fit:
    """Load what fits.

    Args:
        model (nn.Module): What to fill.
        weights (Mapping): See :func:`weights_of`.

    Returns:
        Fit: What did not fit.
    """
    load = FirstLoad(model)
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError:
        # shapes are told of in the end; anything else stops it earlier
        if not load.fit.mismatched:
            raise
    finally:
        load.stop()
    return load.fit
