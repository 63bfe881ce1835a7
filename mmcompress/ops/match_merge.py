"""ToMe's matching of tokens by their keys, and their merge, in one go.

Tokens are matched by :func:`~mmcompress.tokens.matching.bipartite` and
averaged by :func:`~mmcompress.tokens.merging.merge`::

    mass'[m] = sum of mass[n] over the tokens n that go to m
    x'[m] = sum of mass[n] x[n] / mass'[m], 0 where that mass is 0

Kernels sum up in another order, so that similarities that differ by no more
than their rounding may be ordered otherwise, and values differ by it. Equal
keys have equal similarities, and of these the lower position is first.

Only ``x`` gets a gradient::

    dx[n] = mass[n] / mass'[m] dx'[m]
"""
import torch
from torch import Tensor

from mmcompress.tokens.matching import bipartite, num_bipartite
from mmcompress.tokens.merging import merge
from . import library
from .arguments import check_tensor, require


def _check(keys: Tensor, x: Tensor, mass: Tensor | None, r: int,
           protected: list[int]) -> int:
    """Check the arguments, and say how many tokens are left."""
    require(keys.dim() == 4 and min(keys.shape[1:]) > 0,
            f'keys must be (B, H, N, D), it has shape {tuple(keys.shape)}')
    batch, _, num, _ = keys.shape
    for name, tensor in dict(keys=keys, x=x).items():
        require(tensor.is_floating_point(),
                f'{name} must be floating-point, it is {tensor.dtype}')
    check_tensor('x', x, x.dtype, keys, None)
    require(
        x.dim() == 3 and x.shape[:2] == (batch, num),
        f'x must be ({batch}, {num}, C) as keys are {tuple(keys.shape)}, it '
        f'has shape {tuple(x.shape)}')
    if mass is not None:
        require(
            mass.dtype in (torch.float32, torch.float64),
            f'mass must be float32 or float64, it is {mass.dtype}')
        check_tensor('mass', mass, mass.dtype, x, (batch, num, 1))
    require(r >= 0, f'r must be at least 0, it is {r}')
    require(
        all(a < b < num for a, b in zip([-1, *protected], protected)),
        f'protected must be positions of the {num} tokens in ascending order, '
        f'it is {tuple(protected)}')
    return num - num_bipartite(num, protected, r)


def _mass_dtype(x: Tensor, mass: Tensor | None) -> torch.dtype:
    if mass is None:
        return torch.promote_types(x.dtype, torch.float32)
    return mass.dtype


def match_merge_reference(keys: Tensor, x: Tensor, mass: Tensor | None, r: int,
                          protected: list[int]) -> tuple:
    """Definition of :func:`match_merge` in plain PyTorch."""
    _check(keys, x, mass, r, protected)
    match = bipartite(keys, r, tuple(protected))
    return *merge(x, mass, match), match.slot


def fake_match_merge(keys: Tensor, x: Tensor, mass: Tensor | None, r: int,
                     protected: list[int]) -> tuple:
    """Shapes of :func:`match_merge`."""
    num = _check(keys, x, mass, r, protected)
    batch, tokens, channels = x.shape
    return (x.new_empty((batch, num, channels)),
            x.new_empty((batch, num, 1), dtype=_mass_dtype(x, mass)),
            x.new_empty((batch, tokens), dtype=torch.int64))


library.register(
    'match_merge', '(Tensor keys, Tensor x, Tensor? mass, int r, int[] '
    'protected) -> (Tensor, Tensor, Tensor)', match_merge_reference,
    fake_match_merge)


def _keep(ctx, inputs: tuple, output: tuple) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(inputs[2], *output[1:])


def _gradients(ctx, dy: Tensor, *_) -> tuple:
    mass, new_mass, slot = ctx.saved_tensors
    index = slot.unsqueeze(-1)
    share = new_mass.gather(1, index).reciprocal()
    if mass is not None:
        share = torch.where(mass == 0, 0, mass * share)
    dx = dy.gather(1, index.expand(-1, -1, dy.size(2))) * share.to(dy.dtype)
    return None, dx, None, None, None


torch.library.register_autograd(
    'mmcompress::match_merge', _gradients, setup_context=_keep)


def match_merge(keys: Tensor,
                x: Tensor,
                mass: Tensor | None,
                r: int,
                protected: tuple[int, ...] = ()) -> tuple:
    """Let the tokens at even positions that are most similar leave.

    Kernels compute in float32; half precision is converted, float64 takes the
    definition.

    Args:
        keys (Tensor): Shape (B, H, N, D), such as a view of a projection of
            queries, keys and values.
        x (Tensor): Tokens, shape (B, N, C).
        mass (Tensor | None): How many each stands for, float32 of shape (B,
            N, 1); 0 is padding. None: 1.
        r (int): How many are to leave; fewer do where so many cannot.
        protected (tuple[int, ...]): Positions of tokens that neither leave
            nor take in others, ascending.

    Returns:
        tuple[Tensor, Tensor, Tensor]: New tokens, shape (B, M, C), in the
        dtype of ``x``, their masses, shape (B, M, 1), and where each token
        went, int64 of shape (B, N). Protected tokens come first, then the
        other sources that stay, then the other destinations.

    Raises:
        ValueError or RuntimeError: If arguments don't fit together.
    """
    dtypes = [t.dtype for t in (keys, x, mass) if t is not None]
    if torch.float64 in dtypes:
        return library.reference.match_merge(keys, x, mass, r, protected)
    y, *others = library.operators.match_merge(keys.float(), x.float(), mass,
                                               r, list(protected))
    return y.to(x.dtype), *others
