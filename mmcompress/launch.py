"""Run the tool of the library that a config belongs to."""
import argparse
import runpy
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import get_installed_path, is_installed

from .compat import init_cpu_distributed
from .data_paths import check_data_paths
from .hooks.standard import without_standard_hooks

# those that default_hooks.NAME=None leaves out
_MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger',
                   'param_scheduler', 'checkpoint')
STANDARD_HOOKS = 'default_hooks.mmcompress.type=mmcompress.StandardHooks'

# what each tool reads
DATALOADERS = {
    'train.py': ['train_dataloader', 'val_dataloader'],
    'test.py': ['test_dataloader']
}


def find_tool(scope: str | None, tool: str) -> Path:
    """Path of a library's own tool.

    Args:
        scope (str | None): The config's ``default_scope``.
        tool (str): File name, such as ``'train.py'``.

    Raises:
        ValueError: If the config has no scope.
        FileNotFoundError: If the library or its tool isn't installed.
    """
    if scope is None:
        raise ValueError(
            'the config has no `default_scope`, so it is unknown which '
            "library's tool to run; inherit a config of that library, or set "
            "default_scope='mmdet' (mmpose, mmpretrain, mmseg)")
    # mmengine's table, and what compat knows of distributions by other names
    package = MODULE2PACKAGE.get(scope, scope)
    if not is_installed(package):
        raise FileNotFoundError(
            f'the config belongs to {scope}, and {package} is not installed '
            '(`python -m mmcompress.check_env` says how to)')
    root = Path(get_installed_path(package))
    # the second: a checkout on the path
    candidates = [root / '.mim' / 'tools' / tool, root.parent / 'tools' / tool]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f'{package} has no {tool} at {candidates[0]}')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Let a tool take ``--cfg-options``, as those of mm libraries do."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override keys of the config')


def _device(text: str) -> str:
    """A device, if torch can use it here.

    Raises:
        argparse.ArgumentTypeError: If it can not.
    """
    try:
        torch.empty(1, device=text)
    except Exception as error:
        # of torch, some with a stack below the first line
        reason = str(error).partition('\n')[0]
        there = ['cpu'
                 ] + [f'cuda:{i}' for i in range(torch.cuda.device_count())]
        raise argparse.ArgumentTypeError(
            f'torch {torch.__version__} can not use {text!r} on this machine '
            f'({reason}); what it finds: {", ".join(there)}') from error
    return text


def add_device(parser: argparse.ArgumentParser) -> None:
    """Let a tool take ``--device``, and refuse what isn't there at once."""
    parser.add_argument(
        '--device',
        type=_device,
        default='cpu',
        help='cpu (the default), cuda, cuda:1')


def _parse(arguments: list[str]) -> argparse.Namespace:
    """What is needed here of a tool's arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('config', nargs='?')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--launcher', default='none')
    add_cfg_options(parser)
    # others that take a value, which is not the config
    for name in ('--work-dir', '--out', '--out-item', '--dump', '--show-dir',
                 '--interval', '--wait-time', '--local_rank', '--local-rank'):
        parser.add_argument(name)
    parser.add_argument('--resume', nargs='?')
    return parser.parse_known_args(arguments)[0]


def _refuse_empty_hooks(hooks: dict) -> None:
    """Say what mmengine's own error about hooks doesn't.

    Raises:
        ValueError: If a hook is None that mmengine doesn't add by itself.
    """
    empty = [
        key for key, hook in hooks.items()
        if hook is None and key not in _MMENGINE_HOOKS
    ]
    if empty:
        key = empty[0]
        raise ValueError(
            f'default_hooks.{key}=None: mmengine leaves out only its own '
            f'hooks that way ({", ".join(_MMENGINE_HOOKS)}). To drop another '
            "one, write `default_hooks = dict(_delete_=True, ...)` with those "
            'that shall stay; to keep no teacher in the cache, '
            'default_hooks.keep.name=None')


def lacks_our_hooks(cfg: Config) -> bool:
    """Whether a config trains something of ours without our hooks."""
    hooks = str((cfg.get('default_hooks'), cfg.get('custom_hooks')))
    return (without_standard_hooks(hooks)
            and "'mmcompress." in str(cfg.get('model')))


def run_tool(tool: str, usage: str) -> None:
    """Run ``train.py`` or ``test.py`` of the config's library.

    All arguments are that tool's. On a machine without CUDA, ``torchrun``
    needs help that is given here (see :mod:`mmcompress.compat`).

    Args:
        tool (str): File name of the tool.
        usage (str): Shown by ``--help`` without a config.
    """
    arguments = sys.argv[1:]
    known = _parse(arguments)
    asks_for_help = bool({'-h', '--help'} & set(arguments))
    if known.config is None:
        print(usage)
        sys.exit(0 if asks_for_help else 2)
    cfg = Config.fromfile(known.config)
    path = find_tool(cfg.get('default_scope'), tool)
    cfg.merge_from_dict(known.cfg_options or {})
    cfg.launcher = known.launcher
    _refuse_empty_hooks(cfg.get('default_hooks') or {})
    if not asks_for_help:
        check_data_paths(cfg, DATALOADERS[tool])
    if tool == 'train.py' and lacks_our_hooks(cfg):
        arguments += ['--cfg-options', STANDARD_HOOKS]
    before = cfg.get('model_wrapper_cfg')
    init_cpu_distributed(cfg)
    if cfg.get('model_wrapper_cfg') != before:
        arguments += ['--cfg-options'] + [
            f'model_wrapper_cfg.{key}={value}'
            for key, value in cfg.model_wrapper_cfg.items()
        ]
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name='__main__')
