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

    def prepack(self) -> Tensor:
        """Arrange them for the engine."""
        raise NotImplementedError

    @property
    def blob(self) -> Tensor:
        """Weights as the engine of this machine wants them."""
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
        """Prepare for what was loaded.

        Now, so that a graph that is traced next has it as a constant.
        """
        self._blobs.clear()
        if not self.stored.is_meta:
            self.blob  # noqa: B018

    def __getstate__(self) -> dict:
        # another machine may have other kernels
        return {**super().__getstate__(), '_blobs': {}}
