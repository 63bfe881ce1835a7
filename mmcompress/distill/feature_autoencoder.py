"""A frozen network with an autoencoder of its features: IE-KD's teacher."""
from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmcompress.model.config import build_model
from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .losses.checks import check_lists, shapes_of
from .losses.ie_kd import Autoencoder, mean_distance
from .taps import Taps
from .teacher import Teacher
from .teacher_source import read_config


@MODELS.register_module()
class FeatureAutoencoder(BaseModel):
    """First stage of IE-KD: an autoencoder learns features of a teacher.

    The teacher stays as it is; only the autoencoder is trained, by the mean
    distance of the features and their reconstruction. The checkpoint holds
    both. The second stage takes this model as its teacher and taps
    ``'autoencoder.encoder'``, the features' factors.

    Predictions are the teacher's, so that validation shows its accuracy.

    Args:
        teacher (dict): ``cfg``, ``checkpoint``, ``ignore`` and
            ``allow_random`` of :class:`Teacher`; ``stop_early``: False where
            a loss also taps what follows the features, ``'network.head'``
            for example.
        tap (str): The features: a tensor or a sequence of levels, from a
            module that is called once.
        channels (int): Channels of the features.
        factor_channels (int): Channels of the factors.
        num_levels (int): Features that the tap yields.
        use_bn (bool): Whether the autoencoder has BN.
        p (float): Exponent of the distance.
        data_preprocessor (dict | None): The teacher's, where ``cfg`` is only
            a model.

    Raises:
        ValueError: If ``forward`` sees other levels or channels.
        KeyError: If the teacher lacks the tapped module.
    """

    def __init__(self,
                 teacher: dict,
                 tap: str,
                 channels: int,
                 factor_channels: int = 32,
                 num_levels: int = 1,
                 use_bn: bool = True,
                 p: float = 1,
                 data_preprocessor: dict | None = None) -> None:
        source = Teacher(**teacher)
        cfg = read_config(source.cfg)
        if data_preprocessor is not None:
            cfg.setdefault('data_preprocessor', data_preprocessor)
        network = build_model(cfg).requires_grad_(False)
        super().__init__(data_preprocessor=network.data_preprocessor)
        self.source = source
        self.network = network
        self.taps = Taps(dict(features=tap), network, 'teacher')
        self.autoencoder = Autoencoder(channels, factor_channels, num_levels,
                                       use_bn)
        self.shape = num_levels, channels
        self.p = p

    def init_weights(self) -> None:
        """Fill the teacher, when a training starts."""
        self.source.load(self.network)

    def forget_pretrained(self) -> None:
        """Let ``init_weights`` give the teacher random weights, too."""
        self.source.checkpoint = None

    def train(self, mode: bool = True) -> 'FeatureAutoencoder':
        """The teacher stays in eval mode."""
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
            mode (str): ``'loss'``; ``'predict'``: by the teacher;
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
        """The teacher's features, one per level, at least float32."""
        once = {path: 1 for path in self.taps.paths}
        with self.taps.record(
                self.network,
                once if self.source.stop_early else None) as calls:
            self.network(inputs, data_samples, mode='tensor')
        features = self.taps.select(calls)['features']
        if isinstance(features, Tensor):
            features = [features]
        check_lists(self, features=features)
        shapes = shapes_of(features)
        if any(len(s) != 4 for s in shapes) or \
                (len(shapes), *{s[1] for s in shapes}) != self.shape:
            raise ValueError(
                f'FeatureAutoencoder: the tap yields {shapes}, which must be '
                'maps (N, C, H, W); num_levels and channels are '
                f'{self.shape}')
        return [at_least_float32(x) for x in features]
