"""What one can tap: the modules of a model, their outputs and calls."""
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

from mmcompress.builder import selects
from mmcompress.model.config import build_untrained, read_config, teacher_of
from mmcompress.model.inputs import image_size, made_up_batch
from mmcompress.tables import format_table
from .explain import describe
from .tap_paths import has_forward
from .taps import Taps

# modes of an mm model's forward: a training step, and a teacher's forward
MODES = ('loss', 'tensor')
_MOST_PIXELS = 640 * 640


@dataclass
class Row:
    """A module that is called.

    Attributes:
        path (str): Its name, which is a tap.
        kind (str): Its class.
        output (str): Shapes of what it returns.
        num_calls (dict[str, int]): Calls by mode of the forward.
        overwritten (bool): Whether something changes its output in place
            afterwards; a tap yields a copy of what it was before.
    """
    path: str
    kind: str
    output: str
    num_calls: dict[str, int]
    overwritten: bool


def describe_calls(outputs: list, most: int = 8) -> str:
    """Shapes of what the calls of a module gave.

    Args:
        outputs (list): One per call.
        most (int): Number of lines to write before the rest is counted.

    Returns:
        str: A line per element of a single call's tuple, with the index that
        a tap takes; or a line per call.
    """
    texts = [describe(output) for output in outputs]
    if len(texts) == 1 and isinstance(outputs[0], (list, tuple)):
        texts = [f'[{i}] {describe(v)}' for i, v in enumerate(outputs[0])]
        texts = texts or ['()']
    elif len(texts) > 1 and len(set(texts)) == 1:
        texts = [f'each call: {texts[0]}']
    elif len(texts) > 1:
        texts = [f'call {i}: {text}' for i, text in enumerate(texts, 1)]
    if len(texts) > most:
        texts[most - 1:] = [f'... {len(texts) - most + 1} more']
    return '\n'.join(texts)


def _run(model: nn.Module, batch: dict,
         mode: str) -> tuple[dict[str, list], str | None]:
    """Outputs of all modules in a forward, and what stopped it."""
    names = [
        name for name, module in model.named_modules()
        if name and has_forward(module)
    ]
    taps = Taps(dict(zip(names, names)), model, 'model')
    error = None
    # TOOD's head, for one, asks the Runner for it
    MessageHub.get_current_instance().update_info('epoch', 0)
    model.train(mode == 'loss')
    with torch.no_grad(), taps.record(model, copies=False) as calls:
        try:
            model(**batch, mode=mode)
        except Exception as exception:
            error = f'{type(exception).__name__}: {exception}'
    outputs = {path: [call[False] for call in calls[path]] for path in calls}
    return outputs, error


def list_modules(model: nn.Module,
                 batch: dict,
                 shapes_of: str = 'loss') -> tuple[list[Row], dict[str, str]]:
    """Run a model and note which modules are called, and what they return.

    Args:
        model (nn.Module): A model of an mm library.
        batch (dict): Preprocessed ``inputs`` and ``data_samples``.
        shapes_of (str): The mode whose outputs are described where a module
            is called in both.

    Returns:
        tuple: Rows in the model's order, and error messages by mode, where
        the made-up labels don't suit the model.
    """
    runs = {mode: _run(model, batch, mode) for mode in MODES}
    order = sorted(MODES, key=lambda mode: mode != shapes_of)
    rows = []
    for path, module in model.named_modules():
        seen = [runs[mode][0].get(path) for mode in order]
        outputs = next(filter(None, seen), None)
        if outputs is None:
            continue
        rows.append(
            Row(path=path,
                kind=type(module).__name__,
                output=describe_calls([output.value for output in outputs]),
                num_calls={mode: len(runs[mode][0][path])
                           for mode in MODES},
                overwritten=any(out.overwritten() for out in outputs)))
    return rows, {mode: run[1] for mode, run in runs.items() if run[1]}


def select_rows(rows: list[Row],
                pattern: str | None = None,
                depth: int | None = None) -> list[Row]:
    """Rows to show.

    Args:
        rows (list[Row]): All.
        pattern (str | None): Path of a module, to see it and what is below
            it, or a path with wildcards.
        depth (int | None): Most parts of a path.

    Raises:
        ValueError: If nothing is left.
    """
    selected = [
        row for row in rows
        if (pattern is None or selects(pattern, row.path)) and (
            depth is None or row.path.count('.') < depth)
    ]
    if not selected:
        raise ValueError(
            f'no module that is called fits --filter {pattern} --depth '
            f'{depth}; there are {len(rows)}, such as '
            f'{", ".join(row.path for row in rows[:5])}')
    return selected


def build_side(config: str,
               side: str = 'student',
               options: dict | None = None) -> tuple[nn.Module, str]:
    """Build the model that a config is about, with random weights.

    Args:
        config (str): Path of a config of an mm library or of ours, or
            ``'mmdet::folder/name.py'``.
        side (str): ``'student'``, or ``'teacher'`` for that of a
            distillation config.
        options (dict | None): Keys of the config to override.

    Returns:
        tuple[nn.Module, str]: The model and its library's scope.

    Raises:
        ValueError: If the config has no teacher and it is asked for.
    """
    cfg = read_config(config, options)
    scope = cfg.get('default_scope')
    if side == 'teacher':
        teacher = teacher_of(cfg.model)
        if not teacher:
            raise ValueError(f'{config} has no model.teacher')
        cfg = read_config(
            teacher,
            folder=osp.dirname(osp.abspath(config)),
            key='teacher.cfg')
        scope = cfg.get('default_scope', scope)
    with DefaultScope.overwrite_default_scope(scope):
        return build_untrained(cfg), scope


def _smaller(size: tuple[int, int]) -> tuple[int, int]:
    """A size at which the outputs of all modules fit into memory at once."""
    height, width = size
    while height * width > _MOST_PIXELS:
        height, width = height // 2, width // 2
    return height, width


def list_taps(config: str,
              side: str = 'student',
              pattern: str | None = None,
              depth: int | None = None,
              size: Sequence[int] | None = None,
              options: dict | None = None) -> str:
    """What one can tap of a config's student or teacher, as a table.

    Args:
        config (str): See :func:`build_side`.
        side (str): ``'student'`` or ``'teacher'``.
        pattern (str | None): See :func:`select_rows`.
        depth (int | None): See :func:`select_rows`.
        size (Sequence[int] | None): Height and width of the images; None for
            those that the config tests on, halved while they are large.
        options (dict | None): Keys of the config to override.

    Raises:
        RuntimeError: If the model doesn't run with made-up inputs.
    """
    model, scope = build_side(config, side, options)
    # a teacher sees the student's images
    tested = size or image_size(read_config(config, options), model)
    size = size or _smaller(tested)
    with DefaultScope.overwrite_default_scope(scope):
        batch = made_up_batch(model, scope, size)
        rows, errors = list_modules(model, batch,
                                    'loss' if side == 'student' else 'tensor')
    stops = [
        f"mode '{mode}' stopped early, its calls are incomplete: {error}"
        for mode, error in errors.items()
    ]
    if not rows:
        raise RuntimeError('\n'.join(['no module was called', *stops]))
    try:
        shown = select_rows(rows, pattern, depth)
    except ValueError as error:
        # what is missing may lie behind what stopped the model
        raise ValueError('\n'.join([str(error), *stops])) from None
    table = format_table(
        f'{type(model).__name__}, input {describe(batch["inputs"])}',
        ['tap', 'class', 'output', 'training step', 'teacher forward'], [[
            row.path,
            row.kind + ' *' * row.overwritten,
            row.output,
            *(row.num_calls[mode] or '-' for mode in MODES),
        ] for row in shown])
    notes = []
    if size != tested:
        notes.append(f'images of {size[0]} x {size[1]}, to save memory: those '
                     f'of the config have {tested[0]} x {tested[1]}')
    notes += [f'{len(shown)} of {len(rows)} modules that are called are shown']
    if any(row.overwritten for row in shown):
        notes.append('* changed in place afterwards, by an activation for '
                     'example: a tap yields what it was before, a copy')
    return '\n'.join([table, *notes, *stops])
