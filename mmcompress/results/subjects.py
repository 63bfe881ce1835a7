"""The forms of a model that are measured, as they are on disk."""
import contextlib
import copy
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mmcompress.analysis.subject import build_subject
from mmcompress.lowbit import LowBitModule
from mmcompress.model.config import read_config
from mmcompress.model.testing import LabelledData, labelled_data
from .onnx_forms import OnnxForm

# whose data counts: what the user validates on
PARTS = ('val', 'test')
# what is raised where it isn't there
NO_DATA = (ValueError, FileNotFoundError, RuntimeError)
Progress = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class Subject:
    """One form of a model.

    Attributes:
        name (str): ``'float'``, ``'compressed'``, ``'packed'``, ``'onnx'``,
            or that of a control, as ``'student alone'``.
        config (str): Path or ``'mmdet::folder/name.py'``; of a packed form,
            its own.
        checkpoint (str): Path or URL.
        bits (str): Of weights and activations, as ``'w8a8'``; or
            ``'float'``.
        onnx (str | None): File that onnxruntime runs in place of the
            config's model.
    """
    name: str
    config: str
    checkpoint: str
    bits: str = 'float'
    onnx: str | None = None


@dataclass
class Loaded:
    """A form that can be run.

    Attributes:
        subject (Subject): What it is.
        cfg (Config): Whole config.
        model (nn.Module): In eval mode.
        onnx (OnnxForm | None): What runs its file.
    """
    subject: Subject
    cfg: Config
    model: nn.Module
    onnx: OnnxForm | None = None

    @property
    def tester(self) -> Any:
        """What has ``test_step``: the model, or what runs its file."""
        return self.onnx.tester if self.onnx else self.model

    @property
    def is_packed(self) -> bool:
        """Whether weights are stored as codes."""
        return any(m.num_packed_weights() for m in self.model.modules()
                   if isinstance(m, LowBitModule))  # yapf: disable


def show_progress(items: Iterable, what: str) -> Iterable:
    """A bar on standard error, drawn between items and not beside them.

    Args:
        items (Iterable): What to go through.
        what (str): Said in front.
    """
    return track(
        items,
        what,
        console=Console(file=sys.stderr, force_jupyter=False),
        auto_refresh=False)


def load(subject: Subject, device: str = 'cpu', threads: int = 1) -> Loaded:
    """Build what a form is, with its weights.

    Args:
        subject (Subject): The form.
        device (str): As for torch; onnxruntime takes the processor.
        threads (int): Of onnxruntime.
    """
    cfg = read_config(subject.config)
    model = build_subject(cfg, subject.checkpoint)
    if subject.onnx is None:
        return Loaded(subject, cfg, model.to(device))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        onnx = OnnxForm(cfg, model, subject.onnx, threads)
    return Loaded(subject, cfg, model, onnx)


def state_dict_bytes(weights: Mapping[str, Tensor]) -> int:
    """Bytes of a file with weights and nothing else.

    Args:
        weights (Mapping): State dict.
    """
    file = io.BytesIO()
    torch.save(dict(state_dict=dict(weights)), file)
    return file.tell()


def validation_data(cfg: Config, alone: bool = False) -> LabelledData:
    """What a user validates on.

    Args:
        cfg (Config): Whole config.
        alone (bool): One image at a time, in this process.

    Raises:
        FileNotFoundError: If there are no files where the config says.
        ValueError: If it has no metric, or several data sets.
        RuntimeError: If the data can not be loaded.
    """
    if alone:
        cfg = copy.deepcopy(cfg)
        for part in PARTS:
            loader = cfg.get(f'{part}_dataloader')
            if isinstance(loader, dict):
                loader.update(
                    batch_size=1, num_workers=0, persistent_workers=False)
                loader.pop('prefetch_factor', None)
    # readers of annotations tell on standard output how far they are
    with contextlib.redirect_stdout(io.StringIO()):
        return labelled_data(cfg, PARTS)


def num_weights(model: nn.Module) -> int:
    """How many weights a model has, however they are stored.

    Args:
        model (nn.Module): Float, in training, pruned or packed.
    """
    return (sum(p.numel() for p in model.parameters()) +
            sum(m.num_packed_weights() for m in model.modules()
                if isinstance(m, LowBitModule)))  # yapf: disable


def file_bytes(loaded: Loaded) -> int:
    """Bytes of a file that holds the weights and nothing else.

    Args:
        loaded (Loaded): Of what is packed or exported, it is its own file;
            of others their state dict alone.
    """
    subject = loaded.subject
    if subject.onnx is not None:
        # large ones have their weights beside them
        beside = Path(f'{subject.onnx}.data')
        return sum(p.stat().st_size for p in (Path(subject.onnx), beside)
                   if p.is_file())  # yapf: disable
    if loaded.is_packed:
        return Path(subject.checkpoint).stat().st_size
    return state_dict_bytes(loaded.model.state_dict())
