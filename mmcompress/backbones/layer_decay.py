"""Layer-wise rates for a vision transformer in any model."""
from functools import partial

import torch.nn as nn
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor

from mmcompress.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneLayerDecay(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay, of a backbone in a detector, say.

    mmpretrain asks the model for the depth of a layer, which only its own
    models know; this asks the backbone. What is not in the backbone learns at
    the full rate.
    """

    def add_params(self,
                   params: list[dict],
                   module: nn.Module,
                   prefix: str = '',
                   get_layer_depth=None,
                   **kwargs) -> None:
        """Add the parameters of a module, see the base class.

        Raises:
            TypeError: If the backbone doesn't know the depth of its layers.
        """
        if get_layer_depth is None:
            depth = getattr(module.backbone, 'get_layer_depth', None)
            if depth is None:
                raise TypeError(
                    f'BackboneLayerDecay: {type(module.backbone).__name__} '
                    'has no get_layer_depth, as vision transformers of '
                    'mmpretrain have')
            get_layer_depth = partial(depth, prefix='backbone.')
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
