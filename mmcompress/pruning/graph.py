"""Which channels of a model belong together, from one run of it.

While the model runs, every tensor has *labels*, integers that say whose
channel stands where. What moves numbers moves labels; what adds two tensors
says that labels are the same channel; a convolution reads some and begins
others. Whatever else happens to channels fixes them, with a reason: they
can't be removed. So nothing has to be known of architectures, and what is not
understood stays as it is.
"""
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from .labels import Ends, Trace, is_depthwise

# no label: numbers that are no channel's
_NONE = -1
_POINTWISE = ('hardswish', '_prelu_kernel', '_to_copy', 'nan_to_num',
              'native_dropout', 'bernoulli')
# one value per channel and position, from several positions
_SPATIAL = ('max_pool2d_with_indices', 'avg_pool2d', '_adaptive_avg_pool2d',
            'adaptive_max_pool2d', 'upsample_nearest2d',
            'upsample_nearest_exact2d', 'upsample_bilinear2d',
            'upsample_bicubic2d', '_upsample_bilinear2d_aa')
_REDUCTIONS = ('mean', 'sum', 'amax', 'amin')
_MOVES = ('cat', 'stack', 'clone', '_unsafe_view', 'repeat', 'flip')
_PADS = ('constant_pad_nd', 'reflection_pad2d', 'replication_pad2d')
# of which only the shape is looked at
_FACTORIES = ('new_empty', 'new_zeros', 'new_ones', 'new_full', 'empty_like',
              'zeros_like', 'ones_like', 'full_like', 'fill', 'zero')
_RESHAPES = ('view', '_unsafe_view', 'reshape')
_BATCH_NORMS = ('native_batch_norm', 'cudnn_batch_norm', 'batch_norm')
_REASONS = dict(
    native_group_norm='normalized together with others by a GroupNorm',
    native_layer_norm='normalized together with others by a LayerNorm',
    _softmax='compared with others by a softmax')


def _compact(labels: Tensor) -> Tensor:
    """Size 1 along the dimensions along which all labels are the same."""
    for dim in range(labels.dim()):
        if labels.size(dim) > 1:
            first = labels.narrow(dim, 0, 1)
            if bool((labels == first).all()):
                labels = first
    return labels


def _keeps_channels_whole(labels: Tensor, before: torch.Size,
                          after: torch.Size) -> bool:
    """Whether a reshape doesn't cut a dimension along which labels vary."""
    bounds, product = set(), 1
    for size in reversed(after):
        product *= size
        bounds.add(product)
    inner = 1
    for size, varies in zip(reversed(before), reversed(labels.shape)):
        if varies > 1 and any(inner < b < inner * size for b in bounds):
            return False
        inner *= size
    return True


class _Tracer(TorchDispatchMode):
    """Follows labels through the operators that run inside of it.

    Args:
        model (nn.Module): Whose layers count.
        trace (Trace): What is added to.
    """

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.labels = trace.labels
        self.modules = dict(model.named_modules())
        self.of = WeakTensorKeyDictionary()
        # of transposed weights, those that were transposed
        self.weights = WeakTensorKeyDictionary()
        self.owners = WeakTensorKeyDictionary()
        self.shared = WeakTensorKeyDictionary()
        for name, module in self.modules.items():
            for key, tensor in (*module._parameters.items(),
                                *module._buffers.items()):
                if tensor is not None:
                    if tensor in self.owners:
                        self.shared[tensor] = (self.owners[tensor][0], name)
                    self.owners[tensor] = (name, key)

    def __torch_dispatch__(self, func: Callable, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self._follow(func, args, kwargs or {}, out)
        return out

    # ---- Labels of tensors

    def get(self, tensor: Tensor) -> Tensor | None:
        """Labels of a tensor, compact; None without any."""
        if tensor not in self.of and tensor in self.owners:
            name, key = self.owners[tensor]
            self.trace.met.add(name)
            if tensor.numel() > 1:
                path = f'{name}.{key}'.strip('.')
                self.fixed(
                    tensor, f'computed with {path}, which is used '
                    'outside of a layer that could be cut')
        return self.of.get(tensor)

    def fixed(self, tensor: Tensor, reason: str) -> None:
        """Give a tensor one label, which can't be removed."""
        label = self.labels.new(1)
        self.labels.fix(label, reason)
        self.of[tensor] = label.view([1] * tensor.dim())

    def give_up(self, inputs: Iterable, outputs: Iterable,
                reason: str) -> None:
        """Fix what something reads that is not understood."""
        known = [self.get(x) for x in inputs]
        known = [x for x in known if x is not None]
        for labels in known:
            self.labels.fix(labels, reason)
        for tensor in outputs if known else ():
            if tensor.is_floating_point():
                self.fixed(tensor, reason)

    def _channels(self, x: Tensor, dim: int, reason: str) -> Tensor | None:
        """Labels along a dimension, shape (channels,).

        Channels that are mixed along another one are fixed.
        """
        labels = self.get(x)
        if labels is None:
            return None
        if labels.numel() != labels.size(dim):
            self.labels.fix(labels, reason)
            labels = self.labels.new(1)
            self.labels.fix(labels, reason)
        return labels.flatten().expand(x.size(dim))

    # ---- Operators

    def _follow(self, func, args: tuple, kwargs: dict, out) -> None:
        name = func._schema.name.split('::')[1].rstrip('_') or '_'
        inputs = [
            x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)
        ]
        outputs = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if name == 't' and isinstance(args[0], nn.Parameter):
            self.weights[out] = args[0]
        elif name == 'convolution':
            self._layer(args[0], args[1], args[2], out, 1)
        elif name == 'addmm' and args[2] in self.weights:
            self._layer(args[1], self.weights[args[2]], args[0], out, 1)
        elif name == 'mm' and args[1] in self.weights:
            self._layer(args[0], self.weights[args[1]], None, out, 1)
        elif name in _BATCH_NORMS:
            self._batch_norm(inputs, outputs)
        elif name in _FACTORIES or all(self.get(x) is None for x in inputs):
            for tensor in outputs:
                self.of.pop(tensor, None)
        elif torch.Tag.pointwise in func.tags or name in _POINTWISE:
            self._pointwise(inputs, outputs)
        elif name == 'copy':
            self._copy(args[0], args[1])
        elif name in _SPATIAL:
            self._spatial(name, args[0], outputs)
        elif name in _PADS:
            self._pad(name, args[0], args[1], outputs)
        elif name in _REDUCTIONS:
            self._reduce(name, args, kwargs, outputs)
        elif func.is_view or name in _MOVES:
            self._move(name, func, args, kwargs, inputs, outputs)
        else:
            reason = _REASONS.get(
                name, f'read by the operator {name}, which may mix channels')
            self.give_up(inputs, outputs, reason)

    def _layer(self, x: Tensor, weight: Tensor, bias: Tensor | None,
               out: Tensor, dim: int) -> None:
        name, key = self.owners.get(weight, ('', ''))
        layer = self.modules.get(name)
        inputs = [t for t in (x, weight, bias) if t is not None]
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            self.give_up(
                inputs, [out],
                'read by a layer whose weight is computed, or that '
                'is none of PyTorch')
            return
        self.trace.met.add(name)
        if weight in self.shared:
            # cutting one would separate them
            self.give_up(
                inputs, [out], 'read by a weight that '
                f'{" and ".join(self.shared[weight])} share')
            return
        read = self._channels(x, dim, f'mixed with others by {name}')
        if read is None:
            # nothing that could be removed is known to arrive
            read = self.labels.new(x.size(dim))
            self.labels.fix(read, f'read by {name} from what is not known')
        if name not in self.trace.layers:
            self.trace.layers[name] = self._new_ends(layer)
        ends = self.trace.layers[name]
        if ends.reads is None:
            self.labels.unite(read, ends.produces)
        else:
            self.labels.unite(read, ends.reads)
        if getattr(layer, 'groups', 1) > 1 and ends.reads is not None:
            self.labels.fix(
                torch.cat([ends.reads, ends.produces]),
                f'{name} has {layer.groups} groups of several channels')
        shape = [1] * out.dim()
        shape[dim] = -1
        self.of[out] = ends.produces.view(shape)

    def _new_ends(self, layer: nn.Module) -> Ends:
        if isinstance(layer, nn.Linear):
            num_in, num_out = layer.in_features, layer.out_features
        else:
            num_in, num_out = layer.in_channels, layer.out_channels
        reads = None if is_depthwise(layer) else self.labels.new(num_in)
        return Ends(reads, self.labels.new(num_out))

    def _batch_norm(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        x, *others = inputs
        names = {self.owners[t][0] for t in others if t in self.owners}
        layer = self.modules[names.pop()] if len(names) == 1 else None
        labels = self.get(x)
        if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
            self.give_up(inputs, outputs[:1],
                         'read by a norm that is none of PyTorch')
            return
        name = self.owners[others[0]][0]
        self.trace.met.add(name)
        if labels is None:
            return
        read = self._channels(x, 1, f'mixed with others by {name}')
        if name not in self.trace.layers:
            self.trace.layers[name] = Ends(None, self.labels.new(x.size(1)))
        self.labels.unite(read, self.trace.layers[name].produces)
        shape = [1, -1] + [1] * (x.dim() - 2)
        self.of[outputs[0]] = read.view(shape)

    def _pointwise(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        num_dims = max(x.dim() for x in inputs)
        merged = torch.full([1] * num_dims, _NONE)
        whole = []
        for x in inputs:
            labels = self.get(x)
            if labels is None:
                continue
            lacking = [1] * (num_dims - x.dim())
            size = torch.Size(lacking) + x.shape
            whole.append((size, labels.view(lacking + list(labels.shape))))
        for size, labels in whole:
            if any(n == 1 and any(other.size(dim) > 1 for _, other in whole)
                   for dim, n in enumerate(size)):
                # one channel that meets all of others is not one of them
                self.labels.fix(labels, 'applied to all channels of others')
                continue
            self.labels.unite(merged, labels)
            merged, labels = torch.broadcast_tensors(merged, labels)
            merged = torch.where(merged == _NONE, labels, merged)
        for tensor in outputs:
            self.of[tensor] = _compact(merged)

    def _copy(self, to: Tensor, source: Tensor) -> None:
        if to._base is None:
            self.of.pop(to, None)
            if self.get(source) is not None:
                self._pointwise([source], [to])
        else:
            self.give_up([to, source], [],
                         'written into a part of another tensor')

    def _spatial(self, name: str, x: Tensor, outputs: list[Tensor]) -> None:
        labels = self.get(x)
        if max(labels.shape[-2:]) > 1:
            self.give_up([x], outputs, f'mixed with others by {name}')
            return
        for tensor in outputs:
            self.of[tensor] = labels

    def _pad(self, name: str, x: Tensor, pad: list[int],
             outputs: list[Tensor]) -> None:
        labels = self.get(x)
        # two numbers for each dimension, from the last on
        if max(labels.shape[-(len(pad) // 2):]) > 1:
            self.give_up([x], outputs, f'mixed with others by {name}')
        else:
            self.of[outputs[0]] = labels

    def _reduce(self, name: str, args: tuple, kwargs: dict,
                outputs: list[Tensor]) -> None:
        labels = self.get(args[0])
        dims = args[1] if len(args) > 1 else kwargs.get('dim')
        if dims is None or dims == []:
            dims = range(labels.dim())
        dims = [dims] if isinstance(dims, int) else list(dims)
        if any(labels.size(dim) > 1 for dim in dims):
            self.give_up(args[:1], outputs, f'mixed with others by {name}')
        elif outputs[0].dim() == labels.dim():
            self.of[outputs[0]] = labels
        else:
            self.of[outputs[0]] = labels.squeeze(dims)

    def _move(self, name: str, func, args: tuple, kwargs: dict,
              inputs: list[Tensor], outputs: list[Tensor]) -> None:
        before = []

        def labels_for(x):
            if not isinstance(x, Tensor):
                return x
            labels = self.get(x)
            if labels is None:
                labels = torch.full([1] * x.dim(), _NONE)
            before.append(labels)
            return labels.expand(x.shape)

        args = [
            [labels_for(x)
             for x in arg] if isinstance(arg,
                                         (list, tuple)) else labels_for(arg)
            for arg in args
        ]
        # memory formats are nothing to labels
        kwargs = {k: v for k, v in kwargs.items() if k != 'memory_format'}
        if name in _RESHAPES:
            # their strides are not those of the numbers
            moved = [args[0].reshape(args[1])]
        else:
            moved = tree_leaves(func(*args, **kwargs))
        arrived = torch.unique(torch.cat([x.flatten() for x in before]))
        for labels, tensor in zip(moved, outputs):
            left = torch.unique(_compact(labels))
            if len(left[left >= 0]) < len(arrived[arrived >= 0]):
                self.give_up(inputs, outputs,
                             f'taken apart by the operator {name}')
                return
        if name in _RESHAPES and not _keeps_channels_whole(
                before[0], inputs[0].shape, outputs[0].shape):
            self.give_up(inputs, outputs, 'taken apart by a reshape')
            return
        for labels, tensor in zip(moved, outputs):
            self.of[tensor] = _compact(labels)


@contextmanager
def _watched(model: nn.Module, tracer: _Tracer) -> Iterator[None]:
    """Fix what enters a module that computes by other means than operators.

    Extensions of mmcv do so: nothing is known of what comes out of them.
    """

    def after(module: nn.Module, args: tuple, kwargs: dict, out) -> None:
        inputs, outputs = ([
            x for x in tree_leaves(tensors)
            if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1
        ] for tensors in ((args, kwargs), out))
        lost = [x for x in outputs if tracer.get(x) is None]
        if lost:
            tracer.give_up(
                inputs, lost, f'read by {type(module).__name__}, which '
                'computes outside of PyTorch')

    handles = [
        module.register_forward_hook(after, with_kwargs=True)
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def follow(model: nn.Module, trace: Trace, inputs: Iterable[Tensor],
           run: Callable[[], object]) -> None:
    """Run a model and note which channels meet.

    Args:
        model (nn.Module): In eval mode.
        trace (Trace): What earlier runs told; is added to.
        inputs (Iterable[Tensor]): Images.
        run (Callable): Runs the model on them. The channels of what it
            returns can't be removed.
    """
    tracer = _Tracer(model, trace)
    for tensor in inputs:
        tracer.fixed(tensor, 'those of the image')
    with tracer, _watched(model, tracer):
        out = run()
    for tensor in tree_leaves(out):
        labels = tracer.get(tensor) if isinstance(tensor, Tensor) else None
        if labels is not None:
            trace.labels.fix(labels, 'what the model returns')
