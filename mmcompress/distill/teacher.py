"""The teacher: a frozen model that the student's module tree doesn't hold."""
import logging
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.model.config import build_model, init_untrained
from mmcompress.model.data import TrainingData
from .mode_check import check_modes
from .preprocessing import CHANNEL_ORDERS, conversion
from .taps import Taps, tensors_of
from .teacher_source import load_teacher, read_config, warn_of_deit3


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
        self._convert = conversion(cfg, student.data_preprocessor,
                                   model.data_preprocessor, self.student_data,
                                   self.channel_order)
        self.load(model)
        self.taps = Taps(specs, model, 'teacher')
        self._num_calls: dict[str, int] | None = None
        model.requires_grad_(False).eval()
        warn_of_deit3(model)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        self.model = model.to(next(student.parameters()).device)

    def load(self, model: nn.Module) -> None:
        """Fill a model of its config, with random weights where allowed."""
        if self.checkpoint is None:
            with torch.random.fork_rng(devices=[]):
                init_untrained(model, read_config(self.cfg, self.config_dir))
        else:
            self.classes = load_teacher(model, self.cfg, self.checkpoint,
                                        self.ignore, self.config_dir)

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
