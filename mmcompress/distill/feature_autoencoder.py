"""A frozen network with an autoencoder of its features: IE-KD's teacher."""
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from mmcompress.registry import MODELS
from .losses.ie_kd import Autoencoder, at_least_float32, mean_distance
from .taps import Taps
from .teacher import build_model, find_checkpoint, load_strictly


@MODELS.register_module()
class FeatureAutoencoder(BaseModel):
    """First stage of IE-KD: an autoencoder learns features of a teacher.

    The network stays as it is; only the autoencoder is trained, by the mean
    distance of the features and their reconstruction. The checkpoint holds
    both. The second stage takes this model as its teacher and taps
    ``'autoencoder.encoder'``, the features' factors.

    Predictions are the network's, so that validation shows its accuracy.

    Args:
        network (dict): Config of an mm model, the actual teacher.
        tap (str): Its features; a tensor or a sequence of levels, from a
            module that is called once.
        channels (int): Channels of the features.
        factor_channels (int): Channels of the factors.
        checkpoint (str | None): The network's. Path, URL, or
            ``'cache://name'``; None only with ``allow_random``.
        num_levels (int): Features that the tap yields.
        use_bn (bool): Whether the autoencoder has BN.
        p (float): Exponent of the distance.
        ignore (list[str] | None): Keys that the checkpoint may lack or have
            too many, as regular expressions.
        allow_random (bool): Whether random weights are wanted, for tests.
        stop_early (bool): Whether to leave the network after its tap. False
            where a loss also taps what follows, such as ``'network.head'``.
        data_preprocessor (dict | None): The network's, where the config has
            it outside of ``model``.

    Raises:
        ValueError: If there is neither a checkpoint nor ``allow_random``, or
            in ``forward`` if levels or channels don't fit.
        KeyError: If the network lacks the tapped module.
    """

    def __init__(self,
                 network: dict,
                 tap: str,
                 channels: int,
                 factor_channels: int = 32,
                 checkpoint: str | None = None,
                 num_levels: int = 1,
                 use_bn: bool = True,
                 p: float = 1,
                 ignore: list[str] | None = None,
                 allow_random: bool = False,
                 stop_early: bool = True,
                 data_preprocessor: dict | None = None) -> None:
        if checkpoint is None and not allow_random:
            raise ValueError(
                'checkpoint is missing: the features of a network with random '
                'weights teach nothing (allow_random=True for tests)')
        cfg = dict(model=network)
        if data_preprocessor is not None:
            cfg['data_preprocessor'] = data_preprocessor
        network = build_model(Config(cfg))
        super().__init__(data_preprocessor=network.data_preprocessor)
        self.network = network.requires_grad_(False)
        self.taps = Taps(dict(features=tap), network, 'network')
        self.autoencoder = Autoencoder(channels, factor_channels, num_levels,
                                       use_bn)
        self.shape = num_levels, channels
        self.checkpoint = checkpoint
        self.ignore = ignore or []
        self.p = p
        self.stop_early = stop_early

    def init_weights(self) -> None:
        """Fill the network, when a training starts."""
        if self.checkpoint is not None:
            load_strictly(self.network,
                          find_checkpoint('checkpoint', self.checkpoint),
                          self.ignore)

    def train(self, mode: bool = True) -> 'FeatureAutoencoder':
        """The network stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self,
                inputs: Tensor,
                data_samples: list | None = None,
                mode: str = 'tensor') -> dict | list:
        """As of all mm models.

        Args:
            inputs (Tensor): Preprocessed images, shape (N, 3, H, W).
            data_samples (list | None): Their data samples.
            mode (str): ``'loss'``; ``'predict'``: by the network;
                ``'tensor'``: factors, shape (N, factor_channels, H_i, W_i).
        """
        if mode == 'predict':
            return self.network(inputs, data_samples, mode='predict')
        features = self.features(inputs, data_samples)
        # as the losses that compare factors
        with torch.autocast(inputs.device.type, enabled=False):
            if mode == 'tensor':
                return self.autoencoder.encoder(features)
            _, rebuilt = self.autoencoder(features)
            losses = [
                mean_distance(r, f, self.p) for r, f in zip(rebuilt, features)
            ]
        return dict(loss_rec=[loss / len(losses) for loss in losses])

    @torch.no_grad()
    def features(self, inputs: Tensor,
                 data_samples: list | None) -> Sequence[Tensor]:
        """The network's features, one per level, at least float32."""
        once = {path: 1 for path in self.taps.paths}
        with self.taps.record(self.network,
                              once if self.stop_early else None) as calls:
            self.network(inputs, data_samples, mode='tensor')
        features = self.taps.select(calls)['features']
        if isinstance(features, Tensor):
            features = [features]
        shapes = [tuple(x.shape) for x in features]
        if (len(shapes), *{s[1] for s in shapes}) != self.shape:
            raise ValueError(
                f'FeatureAutoencoder: the tap yields {shapes}; num_levels and '
                f'channels are {self.shape}')
        return at_least_float32(features)
