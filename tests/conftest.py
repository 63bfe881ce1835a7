"""Before any test: torchvision and mmengine as the package repairs them."""
import pytest
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

import mmcompress.compat  # noqa: F401


@pytest.fixture(autouse=True)
def no_training_runs():
    """Forget the progress and the scope of a Runner of an earlier test."""
    MessageHub._instance_dict.clear()
    DefaultScope._instance_dict.clear()
