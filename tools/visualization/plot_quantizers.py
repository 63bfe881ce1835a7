"""Draw what each quantizer computes, and what its gradient is taken as.

A picture for each, of three diagrams over the input: the output, its
derivative by the input, and those by the parameters, of one element and
without the factor g of LSQ.
"""
import argparse
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

from mmcompress.quantization import Place, Quantizer, build_quantizer
from mmcompress.quantization.quantization_networks import QNQuantizer

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


@dataclass(frozen=True)
class Shown:
    """A quantizer as it is drawn.

    Attributes:
        title (str): Above the diagrams.
        cfg (dict): Its config.
        state (dict[str, float]): Values of parameters and buffers, after it
            began.
    """
    title: str
    cfg: dict
    state: dict[str, float] = field(default_factory=dict)


SHOWN = dict(
    lsq=Shown('LSQ, 3 bits, s = 0.4', dict(type='LSQ', bits=3),
              dict(scale=0.4)),
    lsqplus=Shown('LSQ+, 2 bits, unsigned, s = 0.5, b = -0.4',
                  dict(type='LSQ', bits=2, signed=False, offset='beta'),
                  dict(scale=0.5, beta=-0.4)),
    lsq_zero_point=Shown('LSQ with a zero point, 3 bits, s = 0.4, z = 1',
                         dict(type='LSQ', bits=3, offset='zero_point'),
                         dict(scale=0.4, zero_point=1.)),
    dorefa_weight=Shown('DoReFa, weights, 2 bits',
                        dict(type='DoReFaWeight', bits=2)),
    dorefa_activation=Shown('DoReFa, activations, 2 bits',
                            dict(type='DoReFaActivation', bits=2)),
    pact=Shown('PACT, 3 bits, a = 1.5', dict(type='PACT', bits=3, alpha=1.5)),
    ternary=Shown('Ternary weights, c = 1.8',
                  dict(type='TernaryWeight', clip=1.8)),
    dynamic=Shown('Dynamic, 4 bits, symmetric, c = 1.5',
                  dict(type='Dynamic', bits=4, clip=1.5)),
    observed=Shown('Observed, 3 bits, affine, s = 0.4, z = 2',
                   dict(type='Observed', bits=3, symmetric=False),
                   dict(scale=0.4, zero_point=2.)),
    act_bi=Shown('ActBi, s = 0.8, z = 0', dict(type='ActBi'),
                 dict(scale=0.8, zero_point=0.)),
    lsf=Shown('LSF, s = 0.8', dict(type='LSF'), dict(scale=0.8)),
    sign_activation=Shown('Signs of activations, of Bi-Real Net',
                          dict(type='SignActivation')),
    sign_weight=Shown('Signs of weights', dict(type='SignWeight')),
    quantization_networks=Shown(
        'Quantization Networks, ternary weights in training, T = 10',
        dict(type='QNWeight', bits=2)))


def begin(shown: Shown) -> Quantizer:
    """Build a quantizer and give it its state."""
    quantizer = build_quantizer(dict(shown.cfg), Place()).double()
    values = nn.Parameter(torch.linspace(-2, 2, 400, dtype=torch.double))
    if isinstance(quantizer, QNQuantizer):
        quantizer.set_temperature(10)
    quantizer(values)
    with torch.no_grad():
        for name, value in shown.state.items():
            getattr(quantizer, name).fill_(value)
    return quantizer


def respond(quantizer: Quantizer,
            x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """What a quantizer returns, and its derivatives.

    Args:
        quantizer (Quantizer): One that has begun.
        x (Tensor): Shape (N, ).

    Returns:
        tuple[Tensor, Tensor, dict[str, Tensor]]: y, dy/dx, and dy/dp by the
        name of a parameter p; each of shape (N, ).
    """
    x = x.clone().requires_grad_()
    parameters = dict(quantizer.named_parameters())
    y = quantizer(x)
    dx, = torch.autograd.grad(y.sum(), x, retain_graph=True)
    rows = [
        torch.autograd.grad(
            value, list(parameters.values()), retain_graph=True) for value in y
        if parameters
    ]
    # those of LSQ are times 1 / sqrt(numel high)
    factor = 1.
    if 'scale' in parameters:
        factor = (x.numel() * quantizer.high)**0.5
    by_parameter = {
        name: factor * torch.cat([row[i] for row in rows])
        for i, name in enumerate(parameters)
    }
    return y.detach(), dx, by_parameter


def draw(shown: Shown, path: Path) -> None:
    """Draw one quantizer.

    Args:
        shown (Shown): Which.
        path (Path): Where to write it; the suffix says the format.
    """
    x = torch.linspace(-2, 2, 201, dtype=torch.double)
    y, dx, by_parameter = respond(begin(shown), x)
    # the same file for the same numbers
    with plt.rc_context({'svg.hashsalt': 'quantizer', 'svg.fonttype': 'none'}):
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(9, 2.6), layout='constrained')
        left.plot(x, x, ':', color='gray', linewidth=1)
        left.plot(x, y)
        left.set_title('y', fontsize=10)
        middle.plot(x, dx, color='C1')
        middle.set_title('dy / dx', fontsize=10)
        for i, (name, values) in enumerate(by_parameter.items()):
            right.plot(x, values, color=f'C{i + 2}', label=name)
        if by_parameter:
            right.set_title('by parameters, one element', fontsize=10)
            right.legend(fontsize=8)
        else:
            right.text(
                0.5,
                0.5,
                'no parameter',
                ha='center',
                transform=right.transAxes)
            right.set_axis_off()
        for axes in (left, middle, right):
            axes.tick_params(labelsize=8)
            axes.set_xlim(-2, 2)
            axes.set_xticks([-2, -1, 0, 1, 2])
            axes.locator_params(axis='y', nbins=5)
        figure.suptitle(shown.title, fontsize=10)
        figure.savefig(
            path,
            dpi=100,
            metadata=dict(Date=None) if path.suffix == '.svg' else None)
        plt.close(figure)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'names',
        nargs='*',
        choices=[[], *SHOWN],
        metavar='NAME',
        help=f'which; by default all: {", ".join(SHOWN)}')
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('quantizers'),
        help='folder for NAME.png')
    parser.add_argument(
        '--format', choices=('png', 'svg'), default='png', help='of the files')
    return parser.parse_args()


def main() -> None:
    """Draw and say where."""
    args = parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for name in args.names or SHOWN:
        path = args.out_dir / f'{name}.{args.format}'
        draw(SHOWN[name], path)
        print(path)


if __name__ == '__main__':
    main()
