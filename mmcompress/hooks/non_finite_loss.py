"""Stop a run whose loss is not finite, and say where to look."""
from typing import Any, List, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmcompress.registry import HOOKS

CAUSES = """Likely causes:
- Boxes of zero width or height: drop them in the pipeline with
  dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False).
- Steps that are too large: lower the learning rate, warm it up (LinearLR over
  the first 500 iterations), clip gradients (optim_wrapper.clip_grad=
  dict(max_norm=35)), lower the weight of a loss that grows before it breaks.
- Half precision: try without --amp, or with dtype='bfloat16'."""


def image_paths(data_batch: Any) -> List[str]:
    """Paths of the images of a batch, as the mm libraries' datasets give them.

    Args:
        data_batch (Any): What the data loader yields: dicts and lists of
            data samples, nested in any way.

    Returns:
        list[str]: Empty if the samples don't know their paths.
    """
    if isinstance(data_batch, dict):
        data_batch = data_batch.get('data_samples', list(data_batch.values()))
        if isinstance(data_batch, dict):
            data_batch = list(data_batch.values())
    if isinstance(data_batch, (list, tuple)):
        return [path for item in data_batch for path in image_paths(item)]
    path = getattr(data_batch, 'img_path', [])
    return [path] if isinstance(path, str) else list(path or [])


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop when a loss is NaN or infinite.

    mmdet's ``CheckInvalidLossHook`` looks every 50th iteration and doesn't
    say which loss, nor for which images. This hook looks at every iteration,
    before anything is saved or averaged.

    Raises:
        RuntimeError: Names the losses, the images and the likely causes.
    """

    priority = 'HIGH'

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Check the losses of a step."""
        losses = {
            key: float(value.detach())
            for key, value in (outputs or {}).items() if 'loss' in key
        }
        broken = {
            key: value
            for key, value in losses.items()
            if not torch.isfinite(torch.tensor(value))
        }
        if not broken:
            return
        values = ', '.join(f'{key} = {value}' for key, value in broken.items())
        finite = ', '.join(f'{key} = {value:.4g}'
                           for key, value in losses.items()
                           if key not in broken)
        images = '\n'.join(image_paths(data_batch)) or (
            "unknown: 'img_path' is not among the meta_keys of the pipeline")
        raise RuntimeError(
            f'The loss is not finite in iteration {runner.iter + 1}: {values} '
            f'(finite: {finite or "none"}).\nImages of the batch:\n{images}\n'
            f'{CAUSES}')
