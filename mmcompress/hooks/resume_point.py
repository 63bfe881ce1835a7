"""Where a run that resumes goes on: the newest checkpoint that loads."""
import os.path as osp
import pickle
import re
import zipfile
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import CheckpointLoader, Runner

POINTER = 'last_checkpoint'
# what mmengine takes from a checkpoint that it resumes
_NEEDED = ('state_dict', 'meta', 'message_hub')


def checkpoint_folder(hook: CheckpointHook, runner: Runner) -> str:
    """The folder that a hook writes to, known before training begins."""
    if hook.out_dir in (None, runner.work_dir):
        return runner.work_dir
    name = osp.basename(runner.work_dir.rstrip(osp.sep))
    return osp.join(hook.out_dir, name)


def lies_in(path: str, folder: str) -> bool:
    """Whether a file, which need not exist, is directly in a folder."""
    return osp.realpath(osp.dirname(path) or '.') == osp.realpath(folder)


def _numbered(hook: CheckpointHook, folder: str) -> list[tuple[int, Path]]:
    """A hook's checkpoints and their steps."""
    pattern = re.escape(hook.filename_tmpl).replace(r'\{\}', r'(\d+)')
    found = [(re.fullmatch(pattern, path.name), path)
             for path in sorted(Path(folder).glob('*'))]
    return [(int(match[1]), path) for match, path in found
            if match and path.is_file()]  # yapf: disable


def _problem(path: Path) -> str | None:
    """What is wrong with a checkpoint, None if it can be resumed."""
    try:
        checkpoint = CheckpointLoader.load_checkpoint(
            str(path), map_location='cpu')
        missing = [key for key in _NEEDED if key not in checkpoint]
        # torch doesn't look at the check sums that it writes
        bad = zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip()
    except (EOFError, LookupError, OSError, RuntimeError, TypeError,
            ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        return str(error) or 'it ends too early'
    if missing:
        return f'it is no checkpoint of a training, without {missing[0]}'
    return f'{bad} has another check sum' if bad else None


def _search(runner: Runner, hooks: list[CheckpointHook]) -> str | None:
    """The checkpoint to resume; None if there is none at all.

    Raises:
        RuntimeError: If there are some, and none loads.
    """
    folders = {hook: checkpoint_folder(hook, runner) for hook in hooks}
    numbered = [
        item for hook, folder in folders.items()
        for item in _numbered(hook, folder)
    ]
    newest = [path for _, path in sorted(numbered, reverse=True)]
    pointer = Path(runner.work_dir, POINTER)
    named = pointer.read_text().strip() if pointer.is_file() else None
    said = []
    if not named:
        said.append(f'{pointer} is ' + ('empty' if named == '' else 'missing'))
    elif any(lies_in(named, folder) for folder in folders.values()):
        newest = [Path(named), *newest]
    else:
        # of a folder that was moved or copied
        said.append(f'{pointer} names {named}, which is in another folder')
        here = [Path(folder, Path(named).name) for folder in folders.values()]
        newest = [*filter(Path.is_file, here), *newest, Path(named)]
    for path in dict.fromkeys(newest):
        problem = _problem(path) if path.is_file() else 'it does not exist'
        if problem is None:
            if said:
                runner.logger.warning(
                    f'{"; ".join(said)}. Resuming from {path}, the newest '
                    'checkpoint that loads.')
            return str(path)
        said.append(f'{path} cannot be resumed: {problem}')
    if any(path.is_file() for path in newest):
        raise RuntimeError(
            f'no checkpoint in {runner.work_dir} can be resumed: '
            f'{"; ".join(said)}. Name one that is whole with --resume PATH, '
            'or remove these files to train from the beginning')
    if pointer.is_file():
        runner.logger.warning(
            f'There is nothing to resume: {"; ".join(said)}. The training '
            'starts from the beginning.')
    return None


def choose_resume_point(runner: Runner) -> None:
    """Have a run that resumes, without saying from where, find a checkpoint.

    mmengine takes what ``last_checkpoint`` says. That file may be missing,
    empty, or name a checkpoint that is gone, only partly written, or in the
    folder of which this one is a copy.

    Args:
        runner (Runner): Before it loads anything.

    Raises:
        RuntimeError: If there are checkpoints, and none loads.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    if not runner._resume or runner._load_from is not None or not hooks:
        return
    backends = [
        get_file_backend(checkpoint_folder(hook, runner)) for hook in hooks
    ]
    if not all(isinstance(backend, LocalBackend) for backend in backends):
        return
    # all processes must resume the same
    found = [None, None]
    if is_main_process():
        try:
            found[0] = _search(runner, hooks)
        except RuntimeError as error:
            found[1] = str(error)
    broadcast_object_list(found)
    path, problem = found
    if problem is not None:
        raise RuntimeError(problem)
    runner._load_from = path
    runner._resume = path is not None
