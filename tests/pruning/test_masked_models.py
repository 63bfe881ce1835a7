"""Masks and their gradients, in the models that users have."""
import copy

import pytest
import torch
from pruning.test_units import _MODELS as MODELS
from pruning.test_units import _run as run

from mmcompress.pruning import (MaskGradients, MaskUnits, cut, masked_units,
                                masks_of)

every_model = pytest.mark.parametrize('kind', list(MODELS))


def flat(outputs):
    return [
        y for out in outputs
        for y in (out if isinstance(out, (list, tuple)) else [out])
    ]


@every_model
def test_masks_of_0_are_what_is_cut(kind):
    model = MODELS[kind]()
    masked = copy.deepcopy(model)
    MaskUnits()(masked)
    for i, mask in enumerate(masks_of(masked).values(), 1):
        mask[i % len(mask)::2] = 0
    cut(model, {k: v.nonzero()[:, 0] for k, v in masks_of(masked).items()})
    for ours, theirs in zip(run(masked), run(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@every_model
def test_gradients_are_the_derivatives(kind):
    model = MODELS[kind]()
    MaskUnits()(model)
    masks = list(dict.fromkeys(mask for _, mask in masked_units(model)))
    for mask in masks:
        mask.value[::2] = .5
    gradients = MaskGradients(model)
    values = [mask.value.requires_grad_() for mask in masks]
    with torch.enable_grad():
        # norms keep sums and sums of squares the same
        sum(y.sin().sum() for y in flat(run.__wrapped__(model))).backward()
    expected = [value.grad for value in values]
    for value in values:
        value.requires_grad_(False)
    gradients.before_step()
    actual = [mask.gradient for mask in masks]
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    assert all(gradient.any() for gradient in actual)
