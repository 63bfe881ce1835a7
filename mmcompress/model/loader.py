"""Data loaders as the tool of a config's library builds them."""
import copy

from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def build_loader(cfg: Config, loader: dict, seed: int = 0) -> DataLoader:
    """Build a data loader of a config.

    mmpretrain's tools stack images where the config doesn't say how to
    collate them; mmengine makes lists, which its models with texts take for
    the frames of a video.

    Args:
        cfg (Config): Whole config, whose default scope tells the library.
        loader (dict): Config of the data loader, not changed.
        seed (int): Of its sampler.
    """
    loader = copy.deepcopy(loader)
    if cfg.get('default_scope') == 'mmpretrain':
        loader.setdefault('collate_fn', dict(type='default_collate'))
    return Runner.build_dataloader(loader, seed=seed)
