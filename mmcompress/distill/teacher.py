"""The teacher: a frozen model that the student's module tree doesn't hold."""
import logging
import os.path as osp
from collections.abc import Callable
from contextlib import nullcontext
from glob import glob

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.cache import CACHE_SCHEME, cached_teacher
from mmcompress.model import config
from mmcompress.model.cached import find_cached
from mmcompress.model.checkpoint import (classes_of, fill, plain_weights,
                                         read_checkpoint)
from mmcompress.model.config import build_model, has_preprocessor
from mmcompress.model.data import TrainingData, training_data
from .mode_check import check_modes
from .preprocessing import CHANNEL_ORDERS, preprocesses, renormalize
from .taps import Taps, tensors_of


def read_config(cfg: dict | str, config_dir: str | None = None) -> Config:
    """Config of a teacher, from what the user wrote.

    Args:
        cfg (dict | str): See :func:`mmcompress.model.config.read_config`.
        config_dir (str | None): Where the training's own config lies;
            relative paths start there.
    """
    return config.read_config(cfg, folder=config_dir, key='teacher.cfg')


def load_strictly(model: nn.Module, checkpoint: str,
                  ignore: list[str]) -> dict:
    """Fill a whole model from a checkpoint.

    Args:
        model (nn.Module): What to fill.
        checkpoint (str): Absolute path or URL.
        ignore (list[str]): Regular expressions; keys that one of them
            matches from their start may be missing or left over.

    Returns:
        dict: The checkpoint as it was read.

    Raises:
        RuntimeError: If keys are missing or left over, or shapes differ.
    """
    loaded = read_checkpoint(checkpoint)
    fit = fill(model, plain_weights(loaded)).but(ignore)
    if str(fit):
        raise RuntimeError(
            f'teacher.checkpoint {checkpoint} does not fit '
            f'{type(model).__name__} of teacher.cfg: {fit}. '
            'It is of another architecture, or name what may differ in '
            '`teacher.ignore` (regular expressions)')
    return loaded


@torch.no_grad()
def warn_of_deit3(model: nn.Module) -> None:
    """Warn if a model has mmpretrain's DeiT-III layers that leave out a norm.

    Args:
        model (nn.Module): Any model.
    """
    for layer in model.modules():
        if type(layer).__name__ == 'DeiT3TransformerEncoderLayer':
            called = []
            handle = layer.ln2.register_forward_hook(
                lambda *_: called.append(True))
            layer(layer.ln2.weight[None, None])
            handle.remove()
            if not called:
                print_log(
                    'The teacher computes wrong features: the installed '
                    'mmpretrain\'s DeiT3 applies ln1 where ln2 belongs. Use '
                    "backbone=dict(type='mmcompress.DeiT3', ...), which loads "
                    'the same checkpoint.',
                    logger='current',
                    level=logging.WARNING)
            return


class Teacher:
    """A frozen model in eval mode that runs only as far as it is tapped.

    It is not an ``nn.Module``, so the student's optimizer, DDP, checkpoints
    and EMA copies don't see it. Copies share it; pickles leave its weights
    out, and it is built again where they are needed.

    Args:
        cfg (dict | str): See :func:`read_config`.
        checkpoint (str | None): Path, URL, or ``'cache://name'`` for what
            :class:`mmcompress.hooks.CacheTeacherHook` kept. None only with
            ``allow_random``.
        ignore (list[str]): Keys that the checkpoint may lack or have too
            many, as regular expressions.
        mode (str): Mode of its forward; ``'loss'`` for models whose decoder
            runs only there.
        allow_random (bool): Whether random weights are wanted, for tests.
        autocast (str | None): ``'bfloat16'`` or ``'float16'``: run it in
            this precision.
        channels_last (bool): Memory format of its weights and input.
        stop_early (bool): Whether to leave its forward after the last tapped
            call. False where the number of calls grows from step to step.
        channel_order (str | None): ``'rgb'`` or ``'bgr'``, the order in which
            its network was given the channels of images; ``'same'`` or
            ``'reversed'``, in comparison with the student's network. None:
            what the data of both configs and both preprocessors say.
        check_modes (bool): Whether to refuse, in the first step, taps that
            yield something else in training mode, in which the student runs.

    Attributes:
        config_dir (str | None): Where relative paths start.
        student_data (TrainingData): What the student is trained on.
        classes (list[str] | None): What its labels mean, by its checkpoint.

    Raises:
        ValueError: If there is neither a checkpoint nor ``allow_random``.
    """

    def __init__(self,
                 cfg: dict | str,
                 checkpoint: str | None = None,
                 ignore: list[str] | None = None,
                 mode: str = 'tensor',
                 allow_random: bool = False,
                 autocast: str | None = None,
                 channels_last: bool = False,
                 stop_early: bool = True,
                 channel_order: str | None = None,
                 check_modes: bool = True) -> None:
        if checkpoint is None and not allow_random:
            raise ValueError(
                'teacher.checkpoint is missing: a teacher with random weights '
                'teaches nothing (teacher.allow_random=True for tests)')
        if mode not in ('tensor', 'loss'):
            raise ValueError(f"teacher.mode is 'tensor' or 'loss', not {mode}")
        if autocast not in (None, 'bfloat16', 'float16'):
            raise ValueError("teacher.autocast is None, 'bfloat16' or "
                             f"'float16', not {autocast!r}")
        if channel_order not in (None, *CHANNEL_ORDERS):
            raise ValueError(
                f'teacher.channel_order is one of {", ".join(CHANNEL_ORDERS)}'
                f', not {channel_order!r}')
        self.cfg = cfg
        self.checkpoint = checkpoint
        self.ignore = ignore or []
        self.mode = mode
        self.autocast = autocast
        self.channels_last = channels_last
        self.stop_early = stop_early
        self.channel_order = channel_order
        self.check_modes = check_modes
        self.config_dir: str | None = None
        self.student_data = TrainingData()
        self.classes: list[str] | None = None
        self.model: nn.Module | None = None

    def build(self, student: nn.Module, specs: dict) -> None:
        """Build and load it.

        Args:
            student (nn.Module): The student, whose device is taken.
            specs (dict): Taps by name of the loss.
        """
        cfg = read_config(self.cfg, self.config_dir)
        model = build_model(cfg)
        self._convert = self._conversion(cfg, student.data_preprocessor,
                                         model.data_preprocessor)
        self.load(model)
        self.taps = Taps(specs, model, 'teacher')
        self._num_calls: dict[str, int] | None = None
        model.requires_grad_(False).eval()
        warn_of_deit3(model)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        self.model = model.to(next(student.parameters()).device)

    def load(self, model: nn.Module) -> None:
        """Fill a model of its config, unless random weights are wanted.

        Raises:
            FileNotFoundError: If there is no checkpoint; says how to make it.
            RuntimeError: If the checkpoint doesn't fit.
        """
        if self.checkpoint is not None:
            path = self._checkpoint_path()
            try:
                loaded = load_strictly(model, path, self.ignore)
            except RuntimeError as error:
                if not self.checkpoint.startswith(CACHE_SCHEME):
                    raise
                raise RuntimeError(
                    f'{error}. The cache may have kept it from another '
                    f'config: remove {path} and train the teacher of '
                    f'teacher.cfg: `{self._training()}`') from error
            self.classes = classes_of(loaded)

    def _training(self) -> str:
        """The command that trains it."""
        cfg = self.cfg if isinstance(self.cfg, str) else 'CONFIG'
        return f'python tools/train.py {cfg}'

    def _conversion(self, cfg: Config, student: nn.Module,
                    teacher: nn.Module) -> Callable[..., Tensor] | None:
        """How the student's inputs become its own.

        Args:
            cfg (Config): Its config.
            student (nn.Module): The student's data preprocessor.
            teacher (nn.Module): Its own.

        Raises:
            ValueError: If nothing says how its pixels are preprocessed.
        """
        own, others = training_data(cfg), self.student_data
        # a pipeline's normalization cannot be undone for one of both
        if own.normalization is None:
            clash = others.normalization and preprocesses(teacher)
        else:
            clash = others.normalization not in (None, own.normalization)
        if clash:
            raise ValueError(
                'the teacher sees what the pipeline of the student\'s data '
                f'gives, which is normalized by {others.normalization or "-"}'
                f' there, and {own.normalization or "-"} in teacher.cfg: let '
                '`data_preprocessor` normalize instead, on both sides')
        if (not has_preprocessor(cfg) and not preprocesses(teacher)
                and preprocesses(student)):
            raise ValueError(
                'teacher.cfg has no `data_preprocessor`, so the teacher would '
                'see raw pixels, while the student\'s are normalized. Write '
                'that of its training into the model, or give the whole '
                'config: teacher=dict(cfg=dict(model=..., '
                "data_preprocessor=dict(mean=..., std=..., ...))); with "
                "data_preprocessor=dict(type='...') and no mean for one that "
                'was trained on raw pixels')
        return renormalize(student, teacher, others.channel_order,
                           own.channel_order, self.channel_order)

    def _checkpoint_path(self) -> str:
        """Where its weights are."""
        if self.checkpoint.startswith(CACHE_SCHEME):
            path = named = cached_teacher(self.checkpoint)
            if glob(f'{osp.splitext(named)[0]}*.pth'):
                cfg = read_config(self.cfg, self.config_dir)
                path = str(find_cached(self.checkpoint, cfg))
            if not osp.isfile(path):
                other = (f'; {named} is of another model or of other data'
                         if osp.isfile(named) else '')
                raise FileNotFoundError(
                    f'teacher.checkpoint: {path} does not exist yet{other}; '
                    f'train the teacher once: `{self._training()}`')
            return path
        if '://' in self.checkpoint:
            return self.checkpoint
        return config.find_file(
            'teacher.checkpoint', self.checkpoint, self.config_dir,
            '. Train the teacher first, with `tools/train.py` and its config,'
            ' or name another checkpoint with --cfg-options '
            'model.teacher.checkpoint=PATH')

    def __call__(self, inputs: Tensor, data_samples: list | None) -> dict:
        """Run it without gradients.

        The first forward runs to the end and counts the calls of the tapped
        modules (a shared head is called once per level); later ones stop
        after the last of them.

        Args:
            inputs (Tensor): The student's input, shape (N, 3, H, W).
            data_samples (list | None): The batch's data samples.

        Returns:
            dict: What its taps yield, by name of the loss.
        """
        self._follow(inputs)
        # whatever it draws, the student's random numbers stay the same
        devices = [inputs.device] if inputs.is_cuda else []
        num_calls = self._num_calls if self.stop_early else None
        with torch.no_grad(), torch.random.fork_rng(devices), \
                self.taps.record(self.model, num_calls) as calls:
            self._forward(self.model, inputs, data_samples)
        num_calls = {path: len(seen) for path, seen in calls.items()}
        values = self.taps.select(calls)
        if self._num_calls is None:
            self._check_first(
                values, num_calls,
                lambda model: self._forward(model, inputs, data_samples))
        elif num_calls != self._num_calls:
            print_log(
                f'The teacher\'s tapped modules were called {num_calls} times '
                f'instead of {self._num_calls}; it ran to the end',
                logger='current',
                level=logging.WARNING)
        self._num_calls = num_calls
        return values

    def _forward(self, model: nn.Module, inputs: Tensor,
                 data_samples: list | None) -> None:
        """Run it, or a copy of it, on the student's input."""
        # a copy at least: a model may change its input in place
        if self._convert is not None:
            inputs = self._convert(inputs, data_samples)
        else:
            inputs = inputs.clone()
        if self.channels_last:
            inputs = inputs.to(memory_format=torch.channels_last)
        with torch.autocast(inputs.device.type, getattr(
                torch, self.autocast)) if self.autocast else nullcontext():
            model(inputs, data_samples, mode=self.mode)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list, **kwargs) -> list:
        """What it would predict; training doesn't need it.

        Args:
            inputs (Tensor): The student's input, shape (N, 3, H, W).
            data_samples (list): The batch's data samples; mm models write
                the predictions into them.
            **kwargs: Of the model's own ``predict``.

        Returns:
            list: Data samples with predictions.
        """
        self._follow(inputs)
        if self._convert is not None:
            inputs = self._convert(inputs, data_samples)
        return self.model.predict(inputs, data_samples, **kwargs)

    def _follow(self, inputs: Tensor) -> None:
        """Go where the student is; copies of it may be elsewhere."""
        weight = next(self.model.parameters())
        if (weight.device, weight.dtype) != (inputs.device, inputs.dtype):
            self.model.to(inputs.device, inputs.dtype)

    def _check_first(self, values: dict, num_calls: dict[str, int],
                     run: Callable[[nn.Module], None]) -> None:
        """Check what its taps yield in the first step."""
        for name, value in values.items():
            if not all(t.isfinite().all() for t in tensors_of(value)):
                raise RuntimeError(
                    f'what the teacher gives {name} is not finite: its '
                    'checkpoint is damaged, or its inputs are not what it '
                    'was trained on')
        if self.check_modes:
            check_modes(self.model, self.taps, values, run, num_calls)

    def __str__(self) -> str:
        kind = 'a model' if self.model is None else type(self.model).__name__
        return f'{kind} with {self.checkpoint or "random weights"}'

    def __deepcopy__(self, memo: dict) -> 'Teacher':
        return self

    def __getstate__(self) -> dict:
        return {**vars(self), 'model': None, '_convert': None}
