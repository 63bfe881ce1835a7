"""The one batch that all networks of a search are shown."""
import copy
import hashlib
from dataclasses import dataclass

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcompress.data_paths import check_data_paths
from mmcompress.model.inputs import image_size
from mmcompress.model.loader import build_loader
from .observe import seeded

SOURCES = ('train', 'noise')


@dataclass(frozen=True)
class Batch:
    """Images, and labels where there are classes.

    Attributes:
        source (str): ``'train'`` or ``'noise'``.
        data (dict): As a data loader gives it; of noise, ``inputs`` that need
            no preprocessing.
        labels (Tensor | None): Shape (N, ).
    """
    source: str
    data: dict
    labels: Tensor | None

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.data['inputs'])

    def inputs(self, model: nn.Module) -> Tensor:
        """The images as a model wants them, by its own preprocessor.

        Args:
            model (nn.Module): Of an mm library.

        Returns:
            Tensor: Shape (N, 3, H, W), on the model's device.
        """
        device = next(model.parameters()).device
        if self.source == 'noise':
            return self.data['inputs'].to(device)
        # some preprocessors write into what they get
        return model.data_preprocessor(copy.deepcopy(self.data),
                                       False)['inputs'].to(device)

    def fingerprint(self, model: nn.Module) -> str:
        """Hexadecimal digits that tell batches apart.

        Args:
            model (nn.Module): Whose preprocessor is used.
        """
        digest = hashlib.sha256()
        for tensor in (self.inputs(model), self.labels):
            if tensor is not None:
                digest.update(str(tuple(tensor.shape)).encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _labels(samples: list | None) -> Tensor | None:
    """Classes of images; None where images have none of their own.

    Raises:
        ValueError: If images have several.
    """
    if not samples or not all('gt_label' in s for s in samples):
        return None
    if any(s.gt_label.numel() != 1 for s in samples):
        raise ValueError('the images of the batch have several labels each; '
                         'the semantic distance wants one: use data without '
                         "multiple labels, or diswot.data='noise'")
    return torch.cat([s.gt_label.view(1) for s in samples])


def training_batch(cfg: Config, size: int, seed: int) -> Batch:
    """Draw images of the training data, prepared as in training.

    Args:
        cfg (Config): Whole config, with ``train_dataloader``.
        size (int): Number of images.
        seed (int): Of the choice and of the augmentation.

    Raises:
        ValueError: If there is no training data, or not that much.
    """
    loader = cfg.get('train_dataloader')
    if not loader:
        raise ValueError('the config has no `train_dataloader`; '
                         "diswot.data='noise' does without")
    check_data_paths(cfg, ['train_dataloader'])
    loader = copy.deepcopy(dict(loader))
    loader.update(batch_size=size, num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')), \
            seeded(seed):
        # with `drop_last`, too little data is no batch at all
        data = next(iter(build_loader(cfg, loader, seed)), dict(inputs=()))
    found = len(data['inputs'])
    if found != size:
        raise ValueError(f'a batch of {size} images is asked for, and the '
                         f'training data gives {found}')
    return Batch('train', data, _labels(data.get('data_samples')))


def noise_batch(cfg: Config, model: nn.Module, size: int, seed: int) -> Batch:
    """Gaussian noise, with random labels where the model is a classifier.

    Args:
        cfg (Config): Whole config, whose test pipeline tells the image size.
        model (nn.Module): Its student.
        size (int): Number of images.
        seed (int): Of the noise.
    """
    height, width = image_size(cfg, model)
    with seeded(seed):
        inputs = torch.randn(size, 3, height, width)
        classes = getattr(getattr(model, 'head', None), 'num_classes', None)
        labels = None if classes is None else torch.randint(classes, (size, ))
    return Batch('noise', dict(inputs=inputs), labels)


def draw_batch(source: str, cfg: Config, model: nn.Module, size: int,
               seed: int) -> Batch:
    """See :func:`training_batch` and :func:`noise_batch`.

    Raises:
        ValueError: If ``source`` is neither, or the batch is of one image.
    """
    if size < 2:
        raise ValueError(f'batch_size={size}: the relation distance compares '
                         'images, so it needs at least 2')
    if source == 'train':
        return training_batch(cfg, size, seed)
    if source == 'noise':
        return noise_batch(cfg, model, size, seed)
    raise ValueError(f'data={source!r} is none of {", ".join(SOURCES)}')
