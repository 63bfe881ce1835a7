"""The same network in its forms: float, as trained, packed; and timed."""
import copy
import time
from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn as nn

from mmcompress.deploy import pack
from mmcompress.deploy.fold.folding import is_one_bit
from mmcompress.deploy.twins import protect_foreign_kernels

# by what a 1-bit layer derives from
_FLOAT_LAYERS = (nn.Conv2d, nn.Conv1d, nn.Linear)


def _float_layer(layer: nn.Module) -> nn.Module:
    kind = next(k for k in _FLOAT_LAYERS if isinstance(layer, k))
    if kind is nn.Linear:
        shape = layer.in_features, layer.out_features
        geometry = {}
    else:
        shape = layer.in_channels, layer.out_channels, layer.kernel_size
        geometry = {
            name: getattr(layer, name)
            for name in ('stride', 'padding', 'dilation', 'groups')
        }
    plain = kind(*shape, bias=layer.bias is not None, **geometry)
    plain.weight = layer.weight
    plain.bias = layer.bias
    return plain.eval()


def float_twin(model: nn.Module) -> nn.Module:
    """The same network with plain layers in place of its 1-bit ones.

    It computes something else, in the time that the float network takes.

    Args:
        model (nn.Module): Not changed.
    """
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if is_one_bit(module):
            parent, _, attribute = name.rpartition('.')
            setattr(
                twin.get_submodule(parent), attribute, _float_layer(module))
    return twin


def forms(model: nn.Module) -> dict[str, nn.Module]:
    """All forms of a model that can be timed against each other.

    Args:
        model (nn.Module): In eval mode. Not changed.

    Returns:
        dict[str, nn.Module]: ``float`` in both memory layouts; and, where
        there are 1-bit layers, ``as trained`` and ``packed``. Layers of
        ``mmcv.ops``, such as RoIAlign, get plain NCHW memory in all of them:
        they read channels-last memory wrongly.
    """
    one_bit = any(map(is_one_bit, model.modules()))
    plain = float_twin(model) if one_bit else model
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    protect_foreign_kernels(last)
    result = {'float': plain, 'float, channels last': last}
    if one_bit:
        result['as trained'] = model
        result['packed'] = pack(model)[1]
    return result


class Parts:
    """Times the parts of a model while it runs.

    The parts are the children of the model, such as ``backbone`` and
    ``roi_head``, each from entering its ``forward`` or ``predict`` to leaving
    it.

    Args:
        model (nn.Module): Its children get wrapped methods; it cannot be
            copied afterwards.
        clock (Callable): Gives seconds.

    Attributes:
        rounds (list[dict]): Seconds by part, one entry per :meth:`run`.
        num_boxes (int | None): Proposals that the last run gave to a RoI
            head.
    """

    def __init__(self, model: nn.Module, clock: Callable[[], float]) -> None:
        self.model = model
        self.clock = clock
        self.rounds: list[dict] = []
        self.num_boxes = None
        self.inside = False
        for name, child in model.named_children():
            for method in ('forward', 'predict'):
                # a container has neither
                if hasattr(child, method) and name != 'data_preprocessor':
                    setattr(child, method,
                            self._timed(name, getattr(child, method)))

    def _timed(self, name: str, method: Callable) -> Callable:

        def timed(*args, **kwargs):
            if self.inside:
                return method(*args, **kwargs)
            if name == 'roi_head' and len(args) > 1:
                self.num_boxes = sum(len(boxes) for boxes in args[1])
            self.inside = True
            start = self.clock()
            try:
                return method(*args, **kwargs)
            finally:
                self.rounds[-1][name] += self.clock() - start
                self.inside = False

        return timed

    def run(self, batch: dict, mode: str) -> None:
        """Run the model once.

        Args:
            batch (dict): Preprocessed inputs.
            mode (str): Of the model's forward.
        """
        self.rounds.append(defaultdict(float))
        start = self.clock()
        self.model(**batch, mode=mode)
        spent = self.clock() - start
        self.rounds[-1]['rest'] = spent - sum(self.rounds[-1].values())


def clock_of(kind: str) -> Callable[[], float]:
    """What measures seconds.

    Args:
        kind (str): ``'wall'``; or ``'cpu'``, the time that this thread ran,
            for one thread on a machine that others use too.

    Raises:
        ValueError: If there are more threads.
    """
    if kind == 'wall':
        return time.perf_counter
    if torch.get_num_threads() > 1:
        raise ValueError('CPU time is that of one thread; use --threads 1, or '
                         '--clock wall')
    return time.thread_time
