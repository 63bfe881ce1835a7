"""The step that lets the layers of a vision transformer merge tokens."""
from importlib import import_module

import torch.nn as nn
from mmengine.logging import print_log

from mmcompress.lowbit import Rules
from mmcompress.registry import STEPS
from mmcompress.tables import format_table
from .layers import Merging, MergingLayer

_PRETRAIN = 'mmpretrain.models.backbones'
_OURS = 'mmcompress.backbones'

#: ``rule(backbone)`` gives the positions of tokens that stay. What has a rule
#: treats tokens, between its layers, by nothing that needs their number.
protected_of = Rules('positions of tokens that stay')


@protected_of(f'{_PRETRAIN}.vision_transformer.VisionTransformer',
              f'{_PRETRAIN}.deit.DistilledVisionTransformer',
              f'{_OURS}.deit3.DeiT3',
              'mmcompress.tokens.cross_tokens.CrossVisionTransformer')
def _first(backbone: nn.Module) -> tuple[int, ...]:
    return tuple(range(backbone.num_extra_tokens))


@protected_of(f'{_OURS}.g2sd.DistTokenVisionTransformer')
def _first_and_last(backbone: nn.Module) -> tuple[int, ...]:
    return (*_first(backbone), -1)


@protected_of('mmseg.models.backbones.vit.VisionTransformer')
def _mmseg(backbone: nn.Module) -> tuple[int, ...]:
    return (0, ) if backbone.with_cls_token else ()


# class that merges, by the class of a layer or a backbone
_MERGING = {
    f'{_PRETRAIN}.vision_transformer.VisionTransformer':
    'mmpretrain_layers.MergingVisionTransformer',
    f'{_PRETRAIN}.deit.DistilledVisionTransformer':
    'mmpretrain_layers.MergingDistilledTransformer',
    f'{_OURS}.deit3.DeiT3':
    'mmpretrain_layers.MergingDeiT3',
    f'{_PRETRAIN}.vision_transformer.TransformerEncoderLayer':
    'mmpretrain_layers.MergingEncoderLayer',
    f'{_OURS}.deit3.DeiT3EncoderLayer':
    'mmpretrain_layers.MergingDeiT3Layer',
    'mmseg.models.backbones.vit.TransformerEncoderLayer':
    'mmseg_layers.MergingEncoderLayer'
}

_GRID = ('merging destroys the grid that its positions relative to each other '
         'refer to')
_RELATIVE = ('merging destroys the grid that its positions relative to each '
             'other refer to; without them, as in EVA-g of BLIP-2, its layers '
             'have no version that merges')
_WRAPPED = ('what it wraps is of another library; of type='
            "'mmpretrain.VisionTransformer' the tokens can be merged")
_WINDOWS = ('its windows need the grid; merging around the feed-forward '
            'networks only, the grid restored behind each, was measured: '
            'Swin-T at 224x224 took 170.6 instead of 170.3 ms, ViTDet at '
            '512x512 129 instead of 126 ms')
_DETR = ('of a DETR at 800x1344 the whole encoder takes 499 ms, the backbone '
         '2,667 ms: halving its tokens would save 8 % at best')
_REFUSED = {
    f'{_PRETRAIN}.swin_transformer.SwinTransformer':
    _WINDOWS,
    f'{_PRETRAIN}.swin_transformer_v2.SwinTransformerV2':
    _WINDOWS,
    'mmdet.models.backbones.swin.SwinTransformer':
    _WINDOWS,
    'mmseg.models.backbones.swin.SwinTransformer':
    _WINDOWS,
    'mmpose.models.backbones.swin.SwinTransformer':
    _WINDOWS,
    f'{_PRETRAIN}.vit_sam.ViTSAM':
    _WINDOWS,
    f'{_OURS}.vitdet.ViTDet':
    _WINDOWS,
    'mmseg.models.backbones.mit.MixVisionTransformer':
    'its feed-forward networks have a 3x3 convolution, which needs the grid',
    'mmdet.models.layers.transformer.detr_layers.DetrTransformerEncoder':
    _DETR,
    f'{_PRETRAIN}.vit_eva02.ViTEVA02':
    _GRID,
    f'{_PRETRAIN}.beit.BEiTViT':
    _RELATIVE,
    'mmseg.models.backbones.beit.BEiT':
    _RELATIVE,
    f'{_PRETRAIN}.timm_backbone.TIMMBackbone':
    _WRAPPED,
    'mmpretrain.models.classifiers.timm.TimmClassifier':
    _WRAPPED,
    'mmpretrain.models.classifiers.hugging_face.HuggingFaceClassifier':
    _WRAPPED,
    f'{_PRETRAIN}.deit3.DeiT3':
    "it applies the first norm twice, see type='mmcompress.DeiT3', which "
    'loads the same checkpoints and merges',
    'mmpretrain.models.selfsup.mae.MAEViT':
    'it leaves out random patches in training'
}


def schedule(r: int | tuple | list, num_layers: int) -> list[int]:
    """How many tokens leave in each layer.

    Args:
        r (int | tuple | list): The same number in all; a tuple ``(r,
            inflect)``: from ``r * (1 - inflect)`` in the first to ``r * (1 +
            inflect)`` in the last, so that -1 falls to 0; a list: one number
            per layer, 0 where it ends.
        num_layers (int): Number of layers.

    Returns:
        list[int]: One number per layer, or the whole of a longer list.

    Raises:
        TypeError: If it is something else.
        ValueError: On a negative number of tokens.
    """
    if isinstance(r, list):
        if not all(type(number) is int for number in r):
            raise TypeError(f'r={r!r}: numbers of tokens are whole')
        numbers = r + [0] * (num_layers - len(r))
    else:
        pair = r if isinstance(r, tuple) else (r, 0)
        if len(pair) != 2 or type(pair[0]) is not int:
            raise TypeError(f'r={r!r} is a number of tokens, a pair (r, '
                            'inflect), or a list with a number per layer')
        first = int(pair[0] * (1. - pair[1]))
        growth = 2 * (pair[0] - first) / max(num_layers - 1, 1)
        numbers = [int(first + growth * i) for i in range(num_layers)]
        if num_layers == 1:
            numbers = [pair[0]]
    if min(numbers, default=0) < 0:
        raise ValueError(f'r={r}: {min(numbers)} tokens can not leave a layer')
    return numbers


@STEPS.register_module()
class MergeTokens:
    """Step that merges similar tokens in the layers of vision transformers.

    It adds no parameters and needs no training, though training with it gives
    some accuracy back. Whatever looks at a layer's output, or at the
    backbone's, still sees all tokens.

    Args:
        r (int | tuple | list | None): How many tokens leave in each layer,
            see :func:`schedule`. None where the matching decides it.
        backbone (str | list[str] | None): Names of the vision transformers.
            Defaults to all.
        layers (list[int] | None): Layers that merge, counted from 0. Defaults
            to all.
        matching (str | dict): What merges, see :mod:`~mmcompress.tokens
            .matching`: ``'bipartite'`` (ToMe), ``'complete_graph'``
            (CrossGET), ``'evit'``, ``'pitome'``, ``'local_cells'``, and to
            compare with, ``'random'`` and ``'kth'``; or a dict with its
            options, such as ``dict(type='threshold', above=0.9)``.
        proportional (bool): Whether a token that stands for several counts
            as often in attention. False for models that were pretrained as
            MAE and not fine-tuned with merging.
        checkpoint (bool): Whether the layers recompute their activations in
            the backward pass; saves memory.

    Raises:
        ValueError: If nothing can merge, or what is named can not, and why.

    Source: Bolya et al., Token Merging: Your ViT But Faster (ICLR 2023).
    """

    def __init__(self,
                 r: int | tuple | list | None = None,
                 backbone: str | list[str] | None = None,
                 layers: list[int] | None = None,
                 matching: str | dict = 'bipartite',
                 proportional: bool = True,
                 checkpoint: bool = False) -> None:
        self.r = r
        self.backbone = [backbone] if isinstance(backbone, str) else backbone
        options = {'type': matching} if isinstance(matching, str) else matching
        self.layers = layers
        if 'type' not in options:
            raise ValueError(f'matching={dict(options)} has no type, such as '
                             "type='threshold'")
        self.options = dict(options)
        self.matching = self.options.pop('type')
        self.proportional = proportional
        self.checkpoint = checkpoint

    def __call__(self, model: nn.Module) -> None:
        """Change the layers' classes in place, and log a table."""
        rows = []
        for name in self.backbone or find_backbones(model):
            rows += self.change(model, name)
        print_log(
            format_table('Merges tokens', ['backbone', 'layer', 'r', 'by'],
                         rows),
            logger='current')

    def change(self, model: nn.Module, name: str) -> list[list[str]]:
        """Let the layers of a backbone merge; rows of the table."""
        modules = dict(model.named_modules(remove_duplicate=False))
        if name not in modules:
            raise ValueError(
                f'backbone={name!r}: {type(model).__name__} has no such part; '
                f'it has {", ".join(n for n, _ in model.named_children())}')
        backbone = modules[name]
        protected = positions(backbone, name)
        numbers = self._numbers(len(backbone.layers), name)
        mergings = [
            Merging(number, protected, self.proportional, self.matching,
                    self.options) for number in numbers
        ]
        merges = [i for i, number in enumerate(numbers) if number != 0]
        if not merges:
            return []
        let_merge(backbone, mergings, merges[0])
        for layer in backbone.layers[merges[0]:]:
            layer.with_cp = self.checkpoint or getattr(layer, 'with_cp', False)
        return [[name, str(i), str(numbers[i]), self.matching] for i in merges]

    def _numbers(self, num_layers: int, name: str) -> list[int | None]:
        """How many tokens leave each layer of a backbone."""
        numbers: list = [None] * num_layers
        if self.r is not None:
            numbers = schedule(self.r, num_layers)
        if len(numbers) > num_layers:
            raise ValueError(f'r={self.r} is for {len(numbers)} layers, and '
                             f'{name} has {num_layers}')
        wrong = [i for i in self.layers or () if i not in range(num_layers)]
        if wrong:
            raise ValueError(f'layers={self.layers}: {name} has no layer '
                             f'{wrong[0]}, it has 0 to {num_layers - 1}')
        if self.layers is None:
            return numbers
        return [n if i in self.layers else 0 for i, n in enumerate(numbers)]


def find_backbones(model: nn.Module) -> list[str]:
    """Names of the vision transformers whose tokens can be merged.

    Raises:
        ValueError: If there is none; says why of those that are refused.
    """
    found = [
        name for name, module in model.named_modules()
        if protected_of.find(module) is not None
    ]
    reasons = [
        f'{name or type(module).__name__}: {_why_not(module)}'
        for name, module in model.named_modules() if _why_not(module)
    ]
    if found:
        for reason in reasons:
            print_log(
                f'Does not merge the tokens of {reason}', logger='current')
        return found
    raise ValueError(
        f'{type(model).__name__} has no vision transformer whose tokens can '
        'be merged. ' + ('; '.join(reasons) or f'Known are {_known()}'))


def positions(backbone: nn.Module, name: str) -> tuple[int, ...]:
    """Positions of a backbone's tokens that stay.

    Raises:
        ValueError: If its tokens can not be merged.
    """
    rule = protected_of.find(backbone)
    if rule is None:
        cls = type(backbone)
        why = _why_not(backbone) or 'nothing is known of its layers'
        raise ValueError(f'the tokens of {name}, {cls.__module__}.'
                         f'{cls.__qualname__}, can not be merged: {why}')
    return rule(backbone)


def _known() -> str:
    """Classes whose tokens can be merged."""
    return ', '.join(f'{path.split(".")[0]}.{path.split(".")[-1]}'
                     for path in protected_of.paths)


def _paths(module: nn.Module) -> list[str]:
    return [f'{c.__module__}.{c.__qualname__}' for c in type(module).__mro__]


def _why_not(module: nn.Module) -> str | None:
    return next((_REFUSED[p] for p in _paths(module) if p in _REFUSED), None)


def _merging_class(module: nn.Module) -> type | None:
    """What a module becomes; None if it stays."""
    path = _MERGING.get(_paths(module)[0])
    if path is None:
        return None
    file, name = path.split('.')
    return getattr(import_module(f'{__package__}.{file}'), name)


def let_merge(backbone: nn.Module, mergings: list[Merging],
              first: int) -> None:
    """Let the layers of a backbone merge, from one on.

    Args:
        backbone (nn.Module): Its layers are ``layers``.
        mergings (list[Merging]): Of each layer.
        first (int): Layers before this one stay as they are.
    """
    for i in range(first, len(mergings)):
        layer = backbone.layers[i]
        if isinstance(layer, MergingLayer):
            if mergings[i].r == 0:
                continue
            if layer.merging.r != 0:
                raise ValueError(f'layer {i} merges tokens already: `layers` '
                                 'of two steps name it')
        else:
            cls = _merging_class(layer)
            if cls is None:
                raise ValueError(f'{_paths(layer)[0]} has no version that '
                                 'merges tokens')
            layer.__class__ = cls
        layer.merging = mergings[i]
    backbone.__class__ = _merging_class(backbone) or type(backbone)
    without_numpy(backbone)


def without_numpy(backbone: nn.Module) -> None:
    """Make numpy's floats Python's: they break graphs of torch.compile."""
    for module in backbone.modules():
        if isinstance(getattr(module, 'drop_prob', None), float):
            module.drop_prob = float(module.drop_prob)
