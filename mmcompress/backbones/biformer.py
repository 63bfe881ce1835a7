"""BiFormer: a pyramid of convolutions and bi-level routing attention."""
import logging
from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import build_norm_layer
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmcompress.registry import MODELS
from .biformer_block import BiFormerBlock, LayerNorm2d
from .lepe_attention import LePEAttention, NCHWLePEAttention
from .routing_attention import BiLevelRoutingAttention, NCHWRoutingAttention

# topk of a stage whose tokens attend to all others
FULL = -2
NUM_STAGES = 4


def _build_attention(dim: int, topk: int, layout: str, head_dim: int,
                     n_win: int, side_dwconv: int, auto_pad: bool,
                     options: dict) -> nn.Module:
    if topk == FULL:
        cls = LePEAttention if layout == 'nhwc' else NCHWLePEAttention
        return cls(dim, side_dwconv)
    if dim % head_dim:
        raise ValueError(f'embed_dim {dim} must be a multiple of head_dim '
                         f'{head_dim}')
    if topk > n_win**2:
        print_log(
            f'BiFormer: topk={topk} is more than the {n_win**2} regions of '
            f'n_win={n_win}; each looks at all of them', 'current',
            logging.WARNING)
        topk = n_win**2
    if layout == 'nhwc':
        return BiLevelRoutingAttention(
            dim,
            dim // head_dim,
            n_win,
            topk,
            side_dwconv=side_dwconv,
            auto_pad=auto_pad,
            **options)
    if options:
        raise ValueError(f"attn_cfg={options} is of layout='nhwc' only")
    return NCHWRoutingAttention(dim, dim // head_dim, n_win, topk, side_dwconv)


def _stage_options(attn_cfg: dict | Sequence[dict] | None) -> list[dict]:
    if attn_cfg is None:
        return [{}] * NUM_STAGES
    if isinstance(attn_cfg, dict):
        return [attn_cfg] * NUM_STAGES
    if len(attn_cfg) != NUM_STAGES:
        raise ValueError(f'attn_cfg must be a dict, or one for each of the '
                         f'{NUM_STAGES} stages, it has {len(attn_cfg)}')
    return list(attn_cfg)


class _Stage(nn.Sequential):
    """Blocks in a row, which distillers tap as one."""

    def __init__(self, blocks: list[nn.Module], with_cp: bool) -> None:
        super().__init__(*blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            if self.with_cp and x.requires_grad:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


@MODELS.register_module()
class BiFormer(BaseModule):
    """BiFormer (Zhu et al., CVPR 2023, arXiv:2303.08810).

    Four stages of strides 4, 8, 16 and 32. In the first three each token
    attends to those of the ``topk`` regions that its own region resembles
    most, in the last one to all. Names of the weights are the official ones.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``; ``'stl'``,
            which has the layout of Swin-T; or a dict of ``depth``,
            ``embed_dim``, ``mlp_ratios`` and ``topks`` per stage (topk -2:
            attention to all tokens), ``patch_stem`` (convolutions of Swin,
            not overlapping) and ``before_attn_dwconv``, the kernel of the
            convolution before each attention.
        layout (str): ``'nhwc'``, that of the released weights, or ``'nchw'``;
            see :class:`BiLevelRoutingAttention` and
            :class:`NCHWRoutingAttention`, whose weights have other names.
        n_win (int): Regions along each side of a map: 7 for 224 pixels, 8 for
            512, 16 for detection. The cost of a stage is
            ``topk * (tokens / n_win)**2``. Where it makes less regions than
            ``topk`` says, each looks at all, and a warning says so.
        auto_pad (bool): Pad maps that do not divide into regions. The nchw
            layout always does.
        in_channels (int): Of the images.
        head_dim (int): Channels of a head. Attention to all tokens has 8
            heads.
        side_dwconv (int): Kernel of the convolution beside the attention.
        attn_cfg (dict | Sequence[dict] | None): Further arguments of
            :class:`BiLevelRoutingAttention`, for all stages or each.
        mlp_dwconv (bool), layer_scale_init_value (float), pre_norm (bool):
            See :class:`BiFormerBlock`.
        drop_path_rate (float): Of the last block; rises from 0.
        out_indices (Sequence[int]): Stages to return, of 0 to 3. What comes
            after the last of them is not computed.
        final_norm (bool): A batch norm of the last stage, for classification.
        extra_norms (bool): A layer norm of each output, for dense tasks. What
            goes on to the next stage is not normalised.
        frozen_stages (int): 0 freezes the stem, i also stages up to the ith.
            -1: nothing.
        norm_eval (bool): Batch norms keep their statistics in training; their
            factors are trained.
        norm_cfg (dict | None): Batch norms. Defaults to BN.
        with_cp (bool): Compute blocks again in the backward, to save memory.
        init_cfg (dict | list | None): Defaults to the paper's.

    Raises:
        ValueError: If arguments don't fit together; in ``forward`` if a map
            has no such regions.
    """

    arch_zoo = dict(
        tiny=dict(
            depth=(2, 2, 8, 2),
            embed_dim=(64, 128, 256, 512),
            mlp_ratios=(3, 3, 3, 3)),
        small=dict(
            depth=(4, 4, 18, 4),
            embed_dim=(64, 128, 256, 512),
            mlp_ratios=(3, 3, 3, 3)),
        base=dict(
            depth=(4, 4, 18, 4),
            embed_dim=(96, 192, 384, 768),
            mlp_ratios=(3, 3, 3, 3)),
        stl=dict(
            depth=(2, 2, 6, 2),
            embed_dim=(96, 192, 384, 768),
            mlp_ratios=(4, 4, 4, 4),
            patch_stem=True,
            before_attn_dwconv=0))
    arch_defaults = dict(
        topks=(1, 4, 16, FULL), patch_stem=False, before_attn_dwconv=3)

    def __init__(self,
                 arch: str | dict = 'tiny',
                 layout: str = 'nhwc',
                 n_win: int = 7,
                 auto_pad: bool = False,
                 in_channels: int = 3,
                 head_dim: int = 32,
                 side_dwconv: int = 5,
                 attn_cfg: dict | Sequence[dict] | None = None,
                 mlp_dwconv: bool = False,
                 layer_scale_init_value: float = 0.,
                 pre_norm: bool = True,
                 drop_path_rate: float = 0.,
                 out_indices: Sequence[int] = (3, ),
                 final_norm: bool = True,
                 extra_norms: bool = False,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 norm_cfg: dict | None = None,
                 with_cp: bool = False,
                 init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg or [
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0),
            dict(type='Constant', layer='LayerNorm', val=1, bias=0)
        ])
        arch = self._read_arch(arch)
        self._check(layout, n_win, out_indices, frozen_stages)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        norm_cfg = norm_cfg or dict(type='BN')
        dims, depth = arch['embed_dim'], arch['depth']
        self.downsample_layers = self._build_downsampling(
            in_channels, dims, arch['patch_stem'], norm_cfg)
        num_blocks = sum(depth)
        drop_path = [
            drop_path_rate * i / max(num_blocks - 1, 1)
            for i in range(num_blocks)
        ]
        options = _stage_options(attn_cfg)
        self.stages = nn.ModuleList()
        for i, dim in enumerate(dims):
            blocks = [
                BiFormerBlock(
                    dim,
                    _build_attention(dim, arch['topks'][i], layout, head_dim,
                                     n_win, side_dwconv, auto_pad, options[i]),
                    channels_first=layout == 'nchw',
                    mlp_ratio=arch['mlp_ratios'][i],
                    mlp_dwconv=mlp_dwconv,
                    before_attn_dwconv=arch['before_attn_dwconv'],
                    layer_scale_init_value=layer_scale_init_value,
                    pre_norm=pre_norm,
                    drop_path=drop_path[sum(depth[:i]) + j])
                for j in range(depth[i])
            ]
            self.stages.append(_Stage(blocks, with_cp))
        self.norm = self.extra_norms = None
        if final_norm and NUM_STAGES - 1 in self.out_indices:
            self.norm = build_norm_layer(norm_cfg, dims[-1])[1]
        if extra_norms:
            self.extra_norms = nn.ModuleList(
                LayerNorm2d(dim, eps=1e-6) if i in
                self.out_indices else nn.Identity()
                for i, dim in enumerate(dims))
        self._freeze_stages()

    def _read_arch(self, arch: str | dict) -> dict:
        if isinstance(arch, str):
            if arch not in self.arch_zoo:
                raise ValueError(f'arch={arch!r}: choose of '
                                 f'{sorted(self.arch_zoo)}, or give a dict')
            arch = self.arch_zoo[arch]
        known = {*self.arch_zoo['stl'], *self.arch_defaults}
        missing = {'depth', 'embed_dim', 'mlp_ratios'} - set(arch)
        if missing or set(arch) - known:
            raise ValueError(f'arch must have depth, embed_dim and mlp_ratios '
                             f'and may have {sorted(self.arch_defaults)}, it '
                             f'has {sorted(arch)}')
        arch = {**self.arch_defaults, **arch}
        for name in ('depth', 'embed_dim', 'mlp_ratios', 'topks'):
            if len(arch[name]) != NUM_STAGES:
                raise ValueError(f'arch: {name} must have one number for each '
                                 f'of the {NUM_STAGES} stages, it is '
                                 f'{arch[name]}')
        return arch

    @staticmethod
    def _check(layout: str, n_win: int, out_indices: Sequence[int],
               frozen_stages: int) -> None:
        if layout not in ('nhwc', 'nchw'):
            raise ValueError(f"layout={layout!r}: choose 'nhwc' or 'nchw'")
        if n_win < 1:
            raise ValueError(f'n_win={n_win} must be at least 1')
        if not out_indices or not set(out_indices) <= set(range(NUM_STAGES)):
            raise ValueError(f'out_indices are stages 0 to {NUM_STAGES - 1}, '
                             f'got {tuple(out_indices)}')
        if not -1 <= frozen_stages <= NUM_STAGES:
            raise ValueError(f'frozen_stages must be from -1 to {NUM_STAGES}, '
                             f'got {frozen_stages}')

    @staticmethod
    def _build_downsampling(in_channels: int, dims: Sequence[int],
                            patch_stem: bool, norm_cfg: dict) -> nn.ModuleList:

        def norm(dim: int) -> nn.Module:
            return build_norm_layer(norm_cfg, dim)[1]

        layers = nn.ModuleList()
        if patch_stem:
            layers.append(
                nn.Sequential(
                    nn.Conv2d(in_channels, dims[0], 4, 4), norm(dims[0])))
            for dim, next_dim in zip(dims, dims[1:]):
                layers.append(
                    nn.Sequential(norm(dim), nn.Conv2d(dim, next_dim, 2, 2)))
            return layers
        half = dims[0] // 2
        layers.append(
            nn.Sequential(
                nn.Conv2d(in_channels, half, 3, 2, 1), norm(half), nn.GELU(),
                nn.Conv2d(half, dims[0], 3, 2, 1), norm(dims[0])))
        for dim, next_dim in zip(dims, dims[1:]):
            layers.append(
                nn.Sequential(
                    nn.Conv2d(dim, next_dim, 3, 2, 1), norm(next_dim)))
        return layers

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages in ``out_indices``.

        Args:
            x (Tensor): Images, shape (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: Shape (N, C_i, H_i, W_i), contiguous.
        """
        outs = []
        for i in range(max(self.out_indices) + 1):
            x = self.downsample_layers[i](x)
            x = self.stages[i](x)
            if i in self.out_indices:
                out = x
                if self.norm is not None and i == NUM_STAGES - 1:
                    out = self.norm(out)
                if self.extra_norms is not None:
                    out = self.extra_norms[i](out)
                # what follows may ask for views
                outs.append(out.contiguous())
        return tuple(outs)

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        num = max(self.frozen_stages, 1)
        return [
            *self.downsample_layers[:num], *self.stages[:self.frozen_stages]
        ]

    def _freeze_stages(self) -> None:
        for module in self._frozen():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'BiFormer':
        """Frozen stages and, if ``norm_eval``, batch norms stay in eval."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
