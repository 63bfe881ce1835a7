"""LayerNorms of transformers, by the import paths of the classes.

Where one linear layer of integers is all that reads a norm, the norm computes
the layer's codes.
"""
import torch.nn as nn

from mmcompress.lowbit import LowBitLayer, folds
from .folding import Folding

# what calls a linear layer with its input and uses that for nothing else; the
# blocks below give what is added as `identity`
_FIRST_LAYERS = {
    'mmpretrain.models.utils.attention.MultiheadAttention': 'qkv',
    'mmcv.cnn.bricks.transformer.FFN': 'layers.0.0',
}


def _first_layer(module: nn.Module) -> nn.Module | None:
    # exactly: a class that derives from it may read its input elsewhere
    cls = type(module)
    name = _FIRST_LAYERS.get(f'{cls.__module__}.{cls.__qualname__}')
    return None if name is None else module.get_submodule(name)


def _fits(norm: nn.Module, layer: nn.Module | None) -> bool:
    """Whether the norm can compute the codes of the layer."""
    if type(norm) is not nn.LayerNorm or norm.bias is None:
        return False
    if not isinstance(layer, nn.Linear) or not isinstance(layer, LowBitLayer):
        return False
    rule = layer.inference_rule()
    if rule is None or rule.grid is None:
        return False
    # a scale of its own for each input follows from real values
    grid = rule.grid
    return (grid.offset is None and grid.dynamic_clip is None
            and norm.normalized_shape == (layer.in_features, )
            and 0 <= norm.eps <= 1)


def _join(block: nn.Module, folding: Folding, **readers: str) -> None:
    """Let norms hand on codes, by their names and those of what they feed."""
    for name, reader in readers.items():
        norm = block._modules[name]
        layer = _first_layer(block._modules[reader])
        if _fits(norm, layer) and folding.is_used_once(norm, layer):
            folding.norms[layer] = norm
            block._modules[name] = nn.Identity()


@folds(
    'mmpretrain.models.backbones.vision_transformer.TransformerEncoderLayer',
    'mmcompress.tokens.mmpretrain_layers.MergingEncoderLayer')
def fold_encoder_layer(block: nn.Module, folding: Folding) -> None:
    """Both norms of ViT and DeiT."""
    _join(block, folding, ln1='attn', ln2='ffn')


@folds('mmseg.models.backbones.vit.TransformerEncoderLayer',
       'mmcompress.tokens.mmseg_layers.MergingEncoderLayer')
def fold_encoder_layer_of_mmseg(block: nn.Module, folding: Folding) -> None:
    """The norm in front of the FFN.

    torch's attention quantizes queries, keys and values each on its own.
    """
    _join(block, folding, **{block.norm2_name: 'ffn'})


@folds('mmpretrain.models.backbones.swin_transformer.SwinBlock',
       'mmdet.models.backbones.swin.SwinBlock',
       'mmpose.models.backbones.swin.SwinBlock',
       'mmseg.models.backbones.swin.SwinBlock')
def fold_swin_block(block: nn.Module, folding: Folding) -> None:
    """The norm in front of the FFN; windows are padded behind the other."""
    _join(block, folding, norm2='ffn')
