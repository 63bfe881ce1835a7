"""Before any test: torchvision and mmengine as the package repairs them."""
import functools
import logging

import pytest
import torch
from mmengine.config import utils as config_utils
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401

# mmengine reads all metafiles of a library at every `mmdet::` base
config_utils.load = functools.cache(config_utils.load)
# the workers of pytest-xdist share the cores
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_training_runs():
    """Forget the progress and the scope of a Runner of an earlier test."""
    MessageHub._instance_dict.clear()
    DefaultScope._instance_dict.clear()


@pytest.fixture
def logged():
    """Level and text of what is logged."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda r: lines.append(f'{r.levelname}: {r.getMessage()}')
    logger = MMLogger.get_current_instance()
    # a tool that ran before may have silenced it
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)
