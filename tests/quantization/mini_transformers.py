"""Small vision transformers from our configs, and batches for them."""
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.quantization import Quantizer

CONFIGS = Path(__file__).parents[2] / 'configs'


def load(name: str, layers: int | None = None) -> Config:
    """A config, perhaps with fewer layers.

    Args:
        name (str): Its base name.
        layers (int | None): Of a model without a teacher.
    """
    file, = CONFIGS.glob(f'*/{name}.py')
    cfg = Config.fromfile(file)
    if layers is not None:
        cfg.model.model.backbone.arch.num_layers = layers
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    """Its model, with random weights, the same for each config."""
    if 'teacher' in cfg.model:
        cfg.model.teacher.update(checkpoint=None, allow_random=True)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def batch(num: int = 4) -> dict:
    """Noise with classes."""
    from mmpretrain.structures import DataSample
    images = torch.randn(
        num, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    samples = [DataSample().set_gt_label(i % 10) for i in range(num)]
    return dict(inputs=images, data_samples=samples)


def loss(model: torch.nn.Module, **data) -> dict:
    """Losses of a training step."""
    return model(**(data or batch()), mode='loss')


def quantizers_of(model: torch.nn.Module, end: str) -> dict[str, Quantizer]:
    """Quantizers whose names end so."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Quantizer) and name.endswith(end)
    }
