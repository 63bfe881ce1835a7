"""Packed layers whose kernels want the weights in a form of their own."""
import torch
from torch import Tensor

from .inference_only import InferenceOnly


class Prepacked(InferenceOnly):
    """Base of the packed layers with weights.

    What the file holds is arranged for the engine once, and that is never
    stored: it depends on the machine.

    Attributes:
        twin (str): ``'packed'`` runs on the fastest engine that is exact
            here, ``'folded'`` on the definition in plain PyTorch. Both give
            the same, bit for bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.twin = 'packed'
        self._blobs: dict = {}

    @property
    def stored(self) -> Tensor:
        """The weights as the file has them."""
        raise NotImplementedError

    def prepack(self):
        """Arrange them for the engine; what it computes with."""
        raise NotImplementedError

    @property
    def blob(self):
        """Weights as the engine of this machine wants them, :meth:`prepack`'s.
        """
        key = self.twin, self.stored.device
        if key in self._blobs:
            return self._blobs[key]
        blob = self.prepack()
        # while a graph is traced there is no real tensor to keep
        if not torch.compiler.is_compiling():
            self._blobs[key] = blob
        return blob

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.loaded()

    def loaded(self) -> None:
        """Prepare for the weights that are there now.

        At once, so that a graph that is traced next has it as a constant.
        """
        self._blobs.clear()
        if not self.stored.is_meta:
            self.blob  # noqa: B018

    def rearrange(self) -> None:
        """Arrange the weights anew, if they were, for another place."""
        if self._blobs:
            self.loaded()

    def _apply(self, fn, recurse: bool = True) -> 'Prepacked':
        result = super()._apply(fn, recurse)
        self.rearrange()
        return result

    def __getstate__(self) -> dict:
        # another machine may have other kernels
        state = super().__getstate__()
        return {**state, '_blobs': {}, '_is_ready': bool(self._blobs)}

    def __setstate__(self, state: dict) -> None:
        is_ready = state.pop('_is_ready', False)
        super().__setstate__(state)
        if is_ready:
            self.loaded()
