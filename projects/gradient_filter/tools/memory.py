"""How much memory a training step takes: what it keeps, and its peak."""
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch.nn as nn
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile


def saved_bytes(forward: Callable[[], object], model: nn.Module) -> int:
    """Bytes that a forward keeps for the backward pass.

    Memory that several operations keep counts once; parameters and buffers,
    which are there anyway, don't.

    Args:
        forward (Callable): Runs it; what it returns is held until the end.
        model (nn.Module): Whose parameters they are.
    """
    own = {
        t.untyped_storage().data_ptr()
        for t in (*model.parameters(), *model.buffers())
    }
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result
    return sum(kept.values())


def peak_bytes(step: Callable[[], object]) -> int:
    """Most memory that a step holds at a time, beyond what was there before.

    Adds up what torch's profiler notes of each allocation. What libraries
    below torch allocate for themselves is not among it.

    Args:
        step (Callable): Called once.
    """
    with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        result = step()
    del result
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'trace.json'
        prof.export_chrome_trace(str(file))
        events = json.loads(file.read_text())['traceEvents']
    changes = sorted((event['ts'], i, event['args']['Bytes'])
                     for i, event in enumerate(events)
                     if event.get('name') == '[memory]')
    if not changes:
        raise RuntimeError('the profiler noted no allocation')
    held = peak = 0
    for _, _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
