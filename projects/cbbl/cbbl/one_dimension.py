"""Small and large boxes in one dimension: gradients and errors of losses.

    python -m cbbl.one_dimension

A network sees where an edge seems to be, blurred by a pixel, and how wide its
anchor is, 8 or 64 pixels, and tells the offset of the edge from the anchor.
"""
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from .losses import TwoHotLocalizationLoss

WIDTHS = (8.0, 64.0)


@dataclass(frozen=True)
class Way:
    """A way to learn an offset.

    Attributes:
        num_outputs (int): Of the network.
        loss (Callable): Of outputs (M, num_outputs), offsets in pixels (M, )
            and widths (M, ), a value for each box.
        pixels (Callable): Offsets in pixels, of outputs and widths.
    """
    num_outputs: int
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    pixels: Callable[[Tensor, Tensor], Tensor]


def _two_hot(lambda_um: float) -> Way:
    loss = TwoHotLocalizationLoss(
        alpha=0.5, n=10, beta=None, lambda_um=lambda_um, reduction='none')
    return Way(loss.num_points, lambda out, d, w: loss(out, d / w),
               lambda out, w: loss.decode(out) * w)


def ways() -> dict[str, Way]:
    """L1 and L2 of pixels and of widths, and the classification."""
    in_pixels = dict(num_outputs=1, pixels=lambda out, w: out[:, 0])
    in_widths = dict(num_outputs=1, pixels=lambda out, w: out[:, 0] * w)
    return {
        'L2, network tells pixels':
        Way(loss=lambda out, d, w: ((out[:, 0] - d) / w)**2, **in_pixels),
        'L1, network tells pixels':
        Way(loss=lambda out, d, w: ((out[:, 0] - d) / w).abs(), **in_pixels),
        'L2, network tells widths':
        Way(loss=lambda out, d, w: (out[:, 0] - d / w)**2, **in_widths),
        'L1, network tells widths':
        Way(loss=lambda out, d, w: (out[:, 0] - d / w).abs(), **in_widths),
        'two-hot, lambda 0':
        _two_hot(0.0),
        'two-hot, lambda 0.5':
        _two_hot(0.5),
    }


def draw(num: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Boxes, half of them small.

    Args:
        num (int): How many, even.
        generator (torch.Generator): Where they come from.

    Returns:
        tuple[Tensor, ...]: What the network sees, shape (num, 2), offsets in
        pixels, up to a third of the width, and widths, shape (num, ).
    """
    width = torch.tensor(WIDTHS).repeat(num // 2)
    offset = (torch.rand(num, generator=generator) * 2 - 1) * width / 3
    seen = offset + torch.randn(num, generator=generator)
    return torch.stack((seen / 8, width / 64), 1), offset, width


def train(way: Way, seed: int = 0, num_steps: int = 400) -> dict[str, float]:
    """Train a small network and compare the two sizes.

    Args:
        way (Way): What to minimise.
        seed (int): Of boxes and weights.
        num_steps (int): Steps of Adam, of 128 boxes.

    Returns:
        dict[str, float]: ``first`` and ``mean``, the ratio of the gradient
        of a small box to that of a large one (norm at the outputs of the
        network, averaged over boxes), in the first step and over all;
        ``small`` and ``large``, mean errors in pixels; ``last``, the loss at
        the end over that in the first step.
    """
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
        nn.Linear(32, way.num_outputs))
    for p in net.parameters():
        bound = p.shape[-1]**-0.5
        nn.init.uniform_(p, -bound, bound, generator=generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    norms, losses = [], []
    for _ in range(num_steps):
        seen, offset, width = draw(128, generator)
        out = net(seen)
        loss = way.loss(out, offset, width)
        gradient, = torch.autograd.grad(loss.sum(), out, retain_graph=True)
        norm = gradient.norm(dim=1)
        norms.append(
            torch.stack([norm[width == w].mean() for w in WIDTHS]).detach())
        losses.append(loss.mean().detach())
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    small, large = torch.stack(norms).T
    seen, offset, width = draw(4096, generator)
    with torch.no_grad():
        error = (way.pixels(net(seen), width) - offset).abs()
    return dict(
        first=float(small[0] / large[0]),
        mean=float(small.mean() / large.mean()),
        small=float(error[width == WIDTHS[0]].mean()),
        large=float(error[width == WIDTHS[1]].mean()),
        last=float(sum(losses[-20:]) / 20 / losses[0]))


def main() -> None:
    """Print a row for each way, the mean of three seeds."""
    print('| loss | gradient small / large, first step | whole training | '
          'error small, px | error large, px |')
    print('| :-- | --: | --: | --: | --: |')
    for name, way in ways().items():
        runs = [train(way, seed) for seed in range(3)]
        mean = [
            sum(run[key] for run in runs) / len(runs)
            for key in ('first', 'mean', 'small', 'large')
        ]
        print(f'| {name} | {mean[0]:.2f} | {mean[1]:.2f} | {mean[2]:.2f} | '
              f'{mean[3]:.2f} |')


if __name__ == '__main__':
    main()
