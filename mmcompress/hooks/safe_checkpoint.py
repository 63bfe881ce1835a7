"""Checkpoints of which one is whole at every moment."""
import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmcompress.atomic import remove_leftovers, replacing
from mmcompress.registry import HOOKS
from .resume_point import (POINTER, checkpoint_folder, choose_resume_point,
                           lies_in)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """As :func:`replacing`; says what to do where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            yield beside
    except OSError as error:
        raise OSError(
            error.errno, f'cannot write {path} ({error.strerror}). What was '
            'written before is whole: free space, and go on with --resume'
        ) from error


class _WritesBeside:
    """A runner whose checkpoints appear under their names when whole."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, *args,
                        **kwargs) -> None:
        """As :meth:`mmengine.runner.Runner.save_checkpoint`."""
        # the others write nothing
        if not is_main_process():
            return
        with _writing(Path(out_dir, filename)) as beside:
            name = str(beside.relative_to(out_dir))
            self._runner.save_checkpoint(out_dir, name, *args, **kwargs)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, which loses no run.

    With ``max_keep_ckpts=1``, mmengine removes the only checkpoint before it
    writes the next one: a process that is killed in between, or a full disk,
    loses the run. Here the next one is written beside its place, synced and
    renamed; then ``last_checkpoint`` moves, then the old ones go. So there
    must be space for one more. All arguments, names and contents are
    mmengine's.

    A resumed run finds the newest checkpoint that loads, see
    :func:`~mmcompress.hooks.resume_point.choose_resume_point`, and removes
    nothing outside of its own folder: the best checkpoint that a copied
    folder knows of is that of the original.

    :class:`~mmcompress.hooks.PlainCheckpointHook` puts this hook into the
    place of mmengine's.
    """

    def before_run(self, runner: Runner) -> None:
        """Called before anything is loaded."""
        choose_resume_point(runner)

    def before_train(self, runner: Runner) -> None:
        """Called after the checkpoint was loaded."""
        self._forget_elsewhere(runner)
        super().before_train(runner)
        if self._is_local() and is_main_process():
            names = glob.escape(self.filename_tmpl).format('*')
            for path in remove_leftovers(Path(self.out_dir), f'*{names}'):
                runner.logger.info(f'{path}, written in part, is removed')

    def _is_local(self) -> bool:
        # of a FileClient, which mmengine still takes, the client
        backend = getattr(self.file_backend, 'client', self.file_backend)
        return isinstance(backend, LocalBackend)

    def _writer(self, runner: Runner) -> Runner:
        # other runners write shards, in all processes
        safe = self._is_local() and isinstance(runner, Runner)
        return _WritesBeside(runner) if safe else runner

    def _forget_elsewhere(self, runner: Runner) -> None:
        """Drop what the checkpoint names, and which is not of this folder."""
        folder = checkpoint_folder(self, runner)
        info = runner.message_hub.runtime_info
        loaded = (runner._load_from if runner._resume else None,
                  info.get('last_ckpt'))
        is_ours = any(path and lies_in(path, folder) for path in loaded)
        if not is_ours:
            info.pop('keep_ckpt_ids', None)
        for key in [key for key in info if key.startswith('best_ckpt')]:
            path = info[key]
            if not path or lies_in(path, folder):
                continue
            here = Path(folder, Path(path).name)
            if is_ours and here.is_file():
                runner.message_hub.update_info(key, str(here))
                continue
            del info[key]
            runner.logger.warning(
                f'The best checkpoint so far, {path}, is not in {folder}: it '
                'stays when a better one is written.')

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir,
                                           self.filename_tmpl.format(step))

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            # checkpoints of DeepSpeed
            self.file_backend.rmtree(path)

    def _save_checkpoint_with_step(self, runner: Runner, step: int,
                                   meta: dict) -> None:
        """Write, move the pointer, remove: in this order."""
        kept, outdated = [], []
        if self.max_keep_ckpts > 0:
            kept = [old for old in self.keep_ckpt_ids if old != step] + [step]
            outdated = kept[:-self.max_keep_ckpts]
            # all of them: those that are not removed when the process is
            # killed, are by the run that resumes
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._writer(runner).save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args)
        if is_main_process():
            with _writing(Path(runner.work_dir, POINTER)) as pointer:
                pointer.write_text(str(self.last_ckpt))
            for old in outdated:
                self._remove(self._path(old))
        if kept:
            # a deque, which drops the outdated
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids',
                                           list(self.keep_ckpt_ids))

    @property
    def _best(self) -> dict[str, str | None]:
        """Path of the best checkpoint of each metric, or of the only one."""
        if hasattr(self, 'best_ckpt_path_dict'):
            return dict(self.best_ckpt_path_dict)
        return dict(best=self.best_ckpt_path)

    @_best.setter
    def _best(self, paths: dict[str, str | None]) -> None:
        if hasattr(self, 'best_ckpt_path_dict'):
            self.best_ckpt_path_dict = dict(paths)
        else:
            self.best_ckpt_path = paths['best']

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Write, then remove the best one so far."""
        if not self.save_best:
            return
        before = self._best
        # mmengine would remove them first
        self._best = dict.fromkeys(before)
        super()._save_best_checkpoint(self._writer(runner), metrics)
        after = self._best
        self._best = {key: after[key] or before[key] for key in before}
        if is_main_process():
            for key, path in before.items():
                if path and after[key] not in (None, path):
                    self._remove(path)
                    runner.logger.info(
                        f'The previous best checkpoint {path} is removed')


def take_over(runner: Runner) -> None:
    """Put :class:`SafeCheckpointHook` into the place of mmengine's hook.

    A hook and not a config does it, because ``default_hooks`` belongs to the
    base config of the library: whatever it sets for ``checkpoint`` stays.

    Args:
        runner (Runner): Its ``hooks`` are changed. Subclasses of mmengine's
            hook are somebody's own and stay.
    """
    for i, hook in enumerate(runner.hooks):
        if type(hook) is CheckpointHook:
            safe = SafeCheckpointHook.__new__(SafeCheckpointHook)
            vars(safe).update(vars(hook))
            runner.hooks[i] = safe
