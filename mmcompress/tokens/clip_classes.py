"""mmpretrain's classes of CLIP, also without transformers.

Only tokenizers need transformers, but without it mmpretrain registers
functions that raise under the names of its multimodal models, which are then
in the way of the models themselves.
"""
from mmpretrain.models import multimodal  # noqa: F401, they are registered
from mmpretrain.registry import MODELS
from mmpretrain.utils.dependency import WITH_MULTIMODAL

_placeholder = None
if not WITH_MULTIMODAL:
    _placeholder = MODELS._module_dict.pop('CLIPZeroShot', None)

from mmpretrain.models.multimodal.clip.clip import CLIP  # noqa: E402
from mmpretrain.models.multimodal.clip.clip_transformer import \
    CLIPTransformer  # noqa: E402

if _placeholder is not None:
    MODELS._module_dict['CLIPZeroShot'] = _placeholder

__all__ = ['CLIP', 'CLIPTransformer', 'WITH_MULTIMODAL']
