"""Masks in the format of COCO."""
import numpy as np
from pycocotools import mask as coco_mask


def encode_mask(mask: np.ndarray) -> dict:
    """A mask as COCO's compressed run lengths, which json can hold.

    Args:
        mask (np.ndarray): Bool, shape (H, W).

    Returns:
        dict: ``size`` and ``counts``.
    """
    runs = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(size=list(runs['size']), counts=runs['counts'].decode())
