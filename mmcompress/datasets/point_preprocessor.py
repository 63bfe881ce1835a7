"""What stands between a data loader of point clouds and the model."""
import torch
from mmengine.model import BaseDataPreprocessor

from mmcompress.registry import MODELS


@MODELS.register_module()
class PointCloudPreprocessor(BaseDataPreprocessor):
    """Stack clouds into a batch and move it; no normalisation, no padding.

    Padding would change the statistics of batch norm, so the clouds of a batch
    must have the same number of points. That number may differ between
    batches.

    Args:
        batch_augments (None): mmpretrain's classifiers pass their
            ``train_cfg``; mixing images has no meaning here.

    Raises:
        ValueError: On batch augmentations; in ``forward``, if the clouds of a
            batch differ in size.
    """

    def __init__(self, batch_augments: dict | None = None) -> None:
        super().__init__()
        if batch_augments:
            raise ValueError('point clouds know no batch augmentations, got '
                             f'train_cfg={batch_augments}')

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data (dict): ``inputs``, a list of (C, N) or a tensor (B, C, N),
                and optionally ``data_samples``.
            training (bool): No difference.

        Returns:
            dict: ``inputs`` as float32 (B, C, N), and ``data_samples``.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        if not isinstance(inputs, torch.Tensor):
            shapes = {tuple(points.shape) for points in inputs}
            if len(shapes) > 1:
                raise ValueError(
                    'the clouds of a batch must have the same number of '
                    f'points, got the shapes {sorted(shapes)}: set num_points '
                    'of LoadPoints to at most the smallest')
            inputs = torch.stack(list(inputs))
        return dict(
            inputs=inputs.float(), data_samples=data.get('data_samples'))
