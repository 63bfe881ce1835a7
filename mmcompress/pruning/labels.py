"""Labels of channels, which say whose channel stands where."""
from collections import defaultdict
from dataclasses import dataclass, field

import torch
import torch.nn as nn
from torch import Tensor


class Labels:
    """Labels of channels, of which some turn out to be the same.

    Attributes:
        reasons (dict[int, str]): Why a label can't be removed.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self.reasons: dict[int, str] = {}

    def new(self, num: int) -> Tensor:
        """As many new labels, int64 of shape (num,)."""
        first = len(self._parents)
        self._parents += range(first, first + num)
        return torch.arange(first, first + num)

    def root(self, label: int) -> int:
        """The label that stands for all that are the same."""
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label

    def unite(self, a: Tensor, b: Tensor) -> None:
        """Say which labels are the same: two tensors that broadcast."""
        a, b = torch.broadcast_tensors(a, b)
        both = (a >= 0) & (b >= 0) & (a != b)
        pairs = torch.stack([a[both], b[both]], 1)
        for one, other in torch.unique(pairs, dim=0).tolist():
            one, other = sorted((self.root(one), self.root(other)))
            self._parents[other] = one
            if other in self.reasons:
                self.reasons.setdefault(one, self.reasons[other])

    def fix(self, labels: Tensor, reason: str) -> None:
        """Say that labels can't be removed; the first reason is kept."""
        for label in torch.unique(labels).tolist():
            if label >= 0:
                self.reasons.setdefault(self.root(label), reason)

    def why(self, label: int) -> str | None:
        """Why a channel can't be removed; None if it can."""
        return self.reasons.get(self.root(label))


@dataclass
class Ends:
    """Labels of what a layer reads and of what it produces.

    Attributes:
        reads (Tensor | None): Shape (in_channels,); None where each channel
            is its own, in norms and depthwise convolutions.
        produces (Tensor): Shape (out_channels,).
    """
    reads: Tensor | None
    produces: Tensor


@dataclass
class Trace:
    """What one or more runs of a model told.

    Attributes:
        labels (Labels): Of all channels.
        layers (dict[str, Ends]): By the layer's name.
        met (set[str]): Modules whose parameters were read.
    """
    labels: Labels = field(default_factory=Labels)
    layers: dict[str, Ends] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a convolution has one filter for each channel."""
    groups = getattr(layer, 'groups', 1)
    return groups > 1 and groups == layer.in_channels == layer.out_channels


def positions(trace: Trace) -> list[dict[tuple[str, bool], list[int]]]:
    """Where each channel stands that can be removed.

    Returns:
        list[dict]: By name of a layer, and whether it reads the channel:
        positions there.
    """
    found = defaultdict(lambda: defaultdict(list))
    produced = set()
    for name, ends in trace.layers.items():
        for reads, labels in ((True, ends.reads), (False, ends.produces)):
            for i, label in enumerate(() if labels is None else labels):
                label = trace.labels.root(int(label))
                found[label][name, reads].append(i)
                if not reads and ends.reads is not None:
                    produced.add(label)
    # coordinates, for example, are no layer's
    return [
        slots for label, slots in found.items()
        if label in produced and label not in trace.labels.reasons
    ]
