"""``torchrun`` on machines without CUDA."""
import atexit
import time

import torch
from mmengine.config import Config
from mmengine.device import get_device


def init_cpu_distributed(cfg: Config) -> None:
    """Prepare a run that ``torchrun`` started on a machine without CUDA.

    mmengine would select a CUDA device, twice. To be called before the
    Runner is built; does nothing with another launcher or on a GPU.

    Args:
        cfg (Config): The run's config, ``launcher`` included. Gets the
            ``model_wrapper_cfg`` that it needs; keys that the user set stay.
    """
    if cfg.get('launcher') != 'pytorch' or get_device() != 'cpu':
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
        atexit.register(close_process_group)
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper.update(cfg.get('model_wrapper_cfg') or {})
    cfg.model_wrapper_cfg = wrapper


def close_process_group() -> None:
    """Leave gloo before DDP models and the interpreter are torn down.

    Its threads drop the tensors of the last collectives a moment after these
    are done, and need the GIL for it. A thread that asks for the GIL of an
    interpreter that is being torn down aborts the process, and a DDP model
    that is freed meanwhile waits for that thread with the GIL in its hands.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        # gives the GIL away; no barrier, a rank that failed would never come
        time.sleep(0.2)
