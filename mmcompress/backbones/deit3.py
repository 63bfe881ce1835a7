"""DeiT-III with the second norm of each layer where it belongs."""
from mmpretrain.models.backbones import DeiT3 as BrokenDeiT3
from mmpretrain.models.backbones.deit3 import DeiT3TransformerEncoderLayer
from torch import Tensor

from mmcompress.registry import MODELS


class DeiT3EncoderLayer(DeiT3TransformerEncoderLayer):
    """Encoder layer of DeiT-III (Touvron et al., arXiv:2204.07118)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape (N, L, embed_dims)."""
        x = x + self.attn(self.ln1(x))
        return self.ffn(self.ln2(x), identity=x)


@MODELS.register_module()
class DeiT3(BrokenDeiT3):
    """mmpretrain's ``DeiT3``, which loads the same checkpoints.

    Up to version 1.2.0 that applies ``ln1`` in front of the feed-forward
    network, too: its ``ln2`` never gets a gradient, and what it computes with
    published weights is wrong.

    Arguments are those of mmpretrain's class.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for layer in self.layers:
            layer.__class__ = DeiT3EncoderLayer
