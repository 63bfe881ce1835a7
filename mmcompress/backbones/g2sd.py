"""Models of G2SD: a student without pixels, and one with two class tokens."""
import torch
import torch.nn as nn
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import (MAE, DeiTClsHead, MAEPretrainDecoder,
                               VisionTransformer)
from torch import Tensor

from mmcompress.registry import MODELS


@MODELS.register_module()
class MAEFeatureDecoder(MAEPretrainDecoder):
    """MAE's decoder up to its last block, which gives features, not pixels.

    So no parameter remains that a loss on these features doesn't train.

    Args:
        **kwargs: Of mmpretrain's ``MAEPretrainDecoder``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        setattr(self, self.decoder_norm_name, nn.Identity())
        self.decoder_pred = nn.Identity()


@MODELS.register_module()
class MAEWithoutPixels(MAE):
    """A masked autoencoder that reconstructs nothing and has no own loss.

    Its decoder runs for what taps it. Without masking it gives features, as
    mmpretrain's ``MAE`` does.

    Args:
        backbone (dict): An ``MAEViT``.
        neck (dict): A :class:`MAEFeatureDecoder`.
        **kwargs: Of mmpretrain's ``MAE``.
    """

    def loss(self, inputs: Tensor, data_samples: list, **kwargs) -> dict:
        """Run encoder and decoder on a part of the patches.

        Args:
            inputs (Tensor): Images, shape (N, 3, H, W).
            data_samples (list): Not looked at.

        Returns:
            dict: Empty.
        """
        latent, _, ids_restore = self.backbone(inputs)
        self.neck(latent, ids_restore)
        return {}


@MODELS.register_module()
class DistTokenVisionTransformer(VisionTransformer):
    """A vision transformer with a distillation token behind the patches.

    The token has no position embedding, so that weights and positions of a
    ``VisionTransformer`` or ``MAEViT`` fit as they are; mmpretrain's
    ``DistilledVisionTransformer`` has it behind the class token, with one.

    Args:
        **kwargs: Of mmpretrain's ``VisionTransformer``. ``out_type`` is
            ``'cls_token'`` by default, and then an output is the pair of
            class and distillation token, each of shape (N, C).
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dist_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialise the distillation token as well."""
        # first, for a checkpoint may bring one
        trunc_normal_(self.dist_token, std=0.02)
        super().init_weights()

    def forward(self, x: Tensor) -> tuple:
        """Outputs of the layers in ``out_indices``.

        Args:
            x (Tensor): Images, shape (N, 3, H, W).
        """
        x, resolution = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            resolution,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens)
        x = torch.cat([x, self.dist_token.expand(len(x), -1, -1)], dim=1)
        x = self.pre_norm(self.drop_after_pos(x))
        outs = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(self._format_output(x, resolution))
        return tuple(outs)

    def _format_output(self, x: Tensor, hw: tuple[int, int]):
        if self.out_type == 'cls_token':
            return x[:, 0], x[:, -1]
        return super()._format_output(x[:, :-1], hw)


@MODELS.register_module(name=['DistTokenClsHead', 'QDeiTClsHead'])
class DistTokenClsHead(DeiTClsHead):
    """Classifies the class token, and the distillation token on its own.

    The labels train ``layers.head``, what the class token tells;
    ``layers.head_dist`` is for a distillation loss that taps it. Predictions
    are the average of both logits. Q-ViT's configs call it ``QDeiTClsHead``;
    it trains mmpretrain's ``DistilledVisionTransformer`` as well.

    Args:
        **kwargs: Of mmpretrain's ``DeiTClsHead``.
    """

    def both(self, feats: tuple) -> tuple[Tensor, Tensor]:
        """Logits of the class token and of the distillation token."""
        cls_token, dist_token = self.pre_logits(feats)
        return self.layers.head(cls_token), self.layers.head_dist(dist_token)

    def forward(self, feats: tuple) -> Tensor:
        """Average of the two logits, shape (N, C)."""
        return sum(self.both(feats)) / 2

    def loss(self, feats: tuple, data_samples: list, **kwargs) -> dict:
        """Loss of the class token's logits.

        Args:
            feats (tuple): Outputs of a :class:`DistTokenVisionTransformer`.
            data_samples (list): mmpretrain's, with labels.

        Returns:
            dict: ``loss``, and ``accuracy`` if ``cal_acc``.
        """
        return self._get_loss(self.both(feats)[0], data_samples, **kwargs)
