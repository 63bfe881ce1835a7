"""The step that lets vision-language transformers merge tokens (CrossGET)."""
from importlib import import_module

import torch.nn as nn
from mmengine.logging import print_log

from mmcompress.registry import STEPS
from mmcompress.tables import format_table
from .layers import Merging
from .step import find_backbones, let_merge, positions, schedule, without_numpy

_MODULE = 'mmpretrain.models.backbones.vision_transformer'
_BACKBONE = f'{_MODULE}.VisionTransformer'
_LAYER = f'{_MODULE}.TransformerEncoderLayer'
_MATCHINGS = dict(cross_query='complete_graph', attention='attention_graph')


@STEPS.register_module()
class CrossGET:
    """Step that merges any similar tokens, and spares important ones.

    A cross token behind the others says what is important. It has an offset
    per layer, the only new parameters, 0 at first, which learns to agree with
    the other modality where the model is :class:`~mmcompress.tokens
    .CLIPRetrieval`, by the loss of that, else by the model's own loss. Nothing
    that the model returns contains the cross token.

    Args:
        vision (int | tuple | list): How many tokens leave in each layer of
            vision transformers, see :func:`~mmcompress.tokens.schedule`.
        text (int | tuple | list): The same of the text transformer of
            ``CLIPRetrieval``.
        backbone (str | list[str] | None): Names of the vision transformers.
            Defaults to all; of a model with momentum encoders, both.
        cross_token (bool): False: the class token says what is important, and
            nothing is added; for models of images alone. Not in the paper.
        importance (str): Of image tokens. ``'cross_query'``: similarity of a
            key and the cross token's query. ``'attention'``: how much a token
            is attended to, as in the official code for LLaVA.
        normalize (bool): Whether weights of merged tokens sum to 1. The
            official code's do only where two tokens of equal mass merge.

    Raises:
        ValueError: If a model has no place for cross tokens, or for ``text``.

    Source: Shi et al., CrossGET: Cross-Guided Ensemble of Tokens for
    Accelerating Vision-Language Transformers (ICML 2024).
    """

    def __init__(self,
                 vision: int | tuple | list = 0,
                 text: int | tuple | list = 0,
                 backbone: str | list[str] | None = None,
                 cross_token: bool = True,
                 importance: str = 'cross_query',
                 normalize: bool = False) -> None:
        if importance not in _MATCHINGS:
            raise ValueError(f'importance is one of {", ".join(_MATCHINGS)}, '
                             f'not {importance!r}')
        if text != 0 and not cross_token:
            raise ValueError('without cross_token only images are merged: '
                             f'text={text!r} has to be 0')
        self.vision = vision
        self.text = text
        self.backbone = [backbone] if isinstance(backbone, str) else backbone
        self.cross_token = cross_token
        self.matching = _MATCHINGS[importance]
        self.normalize = normalize

    def __call__(self, model: nn.Module) -> None:
        """Change the layers' classes in place, and log a table."""
        tower = getattr(model, 'transformer', None)
        if not hasattr(tower, 'let_cross'):
            tower = None
        if self.text != 0 and tower is None:
            raise ValueError(
                f'text={self.text!r}: {type(model).__name__} has no text '
                'transformer whose tokens can be merged; it has to be '
                'mmcompress.CLIPRetrieval')
        rows = []
        for name in self.backbone or find_backbones(model):
            numbers = self._change(model.get_submodule(name), name)
            rows += [[name, str(i), str(n)] for i, n in enumerate(numbers)]
        if tower is not None and self.cross_token:
            numbers = self._numbers(self.text, tower.resblocks, 'text')
            tower.let_cross([
                Merging(
                    n, matching='complete_graph', normalize=self.normalize)
                for n in numbers
            ],
                            learns=model.js_weight > 0)
            rows += [['text', str(i), str(n)] for i, n in enumerate(numbers)]
        print_log(
            format_table('Merges tokens', ['tower', 'layer', 'r'], rows),
            logger='current')

    def _numbers(self, r: int | tuple | list, layers: nn.ModuleList,
                 name: str) -> list[int]:
        numbers = schedule(r, len(layers))
        if len(numbers) != len(layers):
            raise ValueError(f'{r!r} names {len(numbers)} layers, and {name} '
                             f'has {len(layers)}')
        return numbers

    def _change(self, backbone: nn.Module, name: str) -> list[int]:
        """Let the layers of a backbone merge; how many leave each."""
        numbers = self._numbers(self.vision, backbone.layers, name)
        protected = positions(backbone, name)
        if 0 not in protected:
            raise ValueError(f'{name} has no class token, which says what is '
                             'important or begins the cross token')
        guide = 0
        if self.cross_token:
            guide, protected = -1, (*protected, -1)
        mergings = [
            Merging(
                number,
                protected,
                matching=self.matching,
                options=dict(guide=guide, official=not self.normalize),
                normalize=self.normalize) for number in numbers
        ]
        if self.cross_token:
            _let_cross(backbone, mergings, name)
        else:
            let_merge(backbone, mergings, 0)
        return numbers


def _path(module: nn.Module) -> str:
    return f'{type(module).__module__}.{type(module).__qualname__}'


def _let_cross(backbone: nn.Module, mergings: list[Merging],
               name: str) -> None:
    """Give a backbone a cross token, and let its layers merge.

    Raises:
        ValueError: If it has no place for it.
    """
    cross = import_module(f'{__package__}.cross_tokens')
    starts = {
        nn.LayerNorm: cross.CrossLayerNorm,
        nn.Identity: cross.CrossIdentity
    }
    start = getattr(backbone, 'pre_norm', None)
    known = [type(start) in starts, _path(backbone) == _BACKBONE]
    if not all(known + [_path(x) == _LAYER for x in backbone.layers]):
        raise ValueError(
            f'{name}, {type(backbone).__name__}, has no place for a cross '
            "token, which mmpretrain's VisionTransformer has, with layers "
            'that no other step changed. cross_token=False does without')
    start.__class__ = starts[type(start)]
    backbone.__class__ = cross.CrossVisionTransformer
    for layer, merging in zip(backbone.layers, mergings):
        layer.__class__ = cross.CrossEncoderLayer
        layer.add_offset(layer.ln1.weight)
        layer.merging = merging
    without_numpy(backbone)
