"""Small models that are run as those of mm libraries."""
import torch
import torch.nn as nn

from mmcompress.quantization import Spec


class Runs(nn.Module):
    """Hands the inputs of a batch to a network, and writes into it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def test_step(self, batch: dict) -> list:
        batch['predicted'] = True
        return [self.network(batch['inputs'])]


class Twice(nn.Module):
    """A layer that is called for the input, and for ten times of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x), self.layer(10 * x)


def quantized(network: nn.Module,
              weight: int = 4,
              activation: int = 8,
              **options) -> Runs:
    """All layers of a network quantized, the attentions' products, too."""
    spec = Spec(
        weight=dict(type='LSQ', bits=weight),
        activation=dict(type='LSQ', bits=activation, **options))
    model = Runs(network).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            spec.swap(module)
    return model


def batches(*shape: int, num: int = 2) -> list[dict]:
    """Correlated positive and negative values."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(num, shape[0], *[1] * (len(shape) - 1),
                         generator=generator)  # yapf: disable
    noise = torch.randn(num, *shape, generator=generator)
    return [dict(inputs=x) for x in common + noise]
