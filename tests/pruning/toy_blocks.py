"""A model with units of both kinds, in a moment built and trained."""
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import nn

from mmcompress.pruning import Member, Units, units_of
from mmcompress.pruning.units import heads_index


class Attention(nn.Module):
    """Of two heads, with a layer each for queries, keys and values."""

    def __init__(self, dims=6, heads=2):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (
            nn.Linear(dims, dims) for _ in range(4))

    def forward(self, x):
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):

    def __init__(self, dims=6, hidden=10):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dims, hidden), nn.Linear(hidden, dims)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


def _member(layer, index, reads=False):
    keys = ('weight', ) if reads else ('weight', 'bias')
    return Member(layer, keys, int(reads), index)


@units_of(Attention)
def _attention(attn, name):
    index = heads_index(attn.heads, len(attn.q.weight) // attn.heads)
    members = tuple(_member(layer, index) for layer in 'qkv')
    members += (_member('proj', index, True), )
    yield Units(name, name, 'attention', members, None)


@units_of(MLP)
def _mlp(mlp, name):
    index = torch.arange(len(mlp.fc1.weight))[:, None]
    members = _member('fc1', index), _member('fc2', index, True)
    yield Units(name, name, 'mlp', members, None)


class Blocks(BaseModel):
    """Two blocks, and the squared error of what they compute."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.blocks = nn.Sequential(Attention(), MLP(), Attention(), MLP())

    def forward(self, inputs, mode='tensor'):
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        x = inputs.to(self.blocks[1].fc1.weight)
        # tokens that differ, from whatever numbers
        x = torch.stack([(x.mean(-1, keepdim=True) + i).sin().expand(-1, 6) *
                         torch.arange(1., 7).to(x).add(i).cos()
                         for i in range(3)], 1)
        for block in self.blocks:
            x = x + block(x)
        return dict(loss=(x - 1).square().mean()) if mode == 'loss' else x
