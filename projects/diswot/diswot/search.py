"""Search a student for a teacher, without training either."""
import argparse
import logging
import sys
import time
import warnings
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import TASK_UTILS

import mmcompress.compat  # noqa: F401
from mmcompress.launch import add_cfg_options, add_device
from mmcompress.model.config import read_config
from . import report
from .algorithms import History, best_of, evolution, random_search
from .evaluate import Cost, Evaluator, mean
from .records import Record, Records, conditions
from .scoring import Distances
from .settings import Settings, settings_of
from .space import Candidate

DESCRIPTION = """Search a student for a teacher, without training either.

CONFIG trains a student (by tools/train.py); its key `diswot` says what may be
changed, for which teacher, and under which limits. Everything there can be
set from here, as in --cfg-options diswot.seed=1 diswot.max_flops=2e6.
Written to the work dir: scores.json (after each evaluation), table.txt,
search.svg, and CONFIG's name with _chosen.py, which tools/train.py trains."""


class Search:
    """A search of a config, which writes down all it finds.

    Args:
        evaluator (Evaluator): Of the config.
        records (Records): Where evaluations are kept.
        settings (Settings): Of the config.
    """

    def __init__(self, evaluator: Evaluator, records: Records,
                 settings: Settings) -> None:
        self.evaluator = evaluator
        self.records = records
        self.settings = settings
        # in the order in which this search asks for them
        self.asked: History = {}
        self.refused: dict[Candidate, Cost] = {}

    def _cost(self, candidate: Candidate) -> Cost:
        record = self.records.records.get(candidate)
        return record.cost if record else self.evaluator.cost(candidate)

    def allowed(self, candidate: Candidate) -> bool:
        """Whether a candidate is within the limits."""
        settings = self.settings
        if settings.max_params is None and settings.max_flops is None:
            return True
        cost = self._cost(candidate)
        over = any(limit is not None and value > limit
                   for value, limit in ((cost.params, settings.max_params),
                                        (cost.flops, settings.max_flops)))
        if over:
            self.refused[candidate] = cost
        return not over

    def _measure(self, candidate: Candidate) -> Record:
        start = time.perf_counter()
        inits = self.evaluator.distances(candidate)
        return Record(candidate, self.evaluator.cost(candidate), mean(inits),
                      inits,
                      time.perf_counter() - start)

    def evaluate(self, candidate: Candidate) -> Distances:
        """Distances of a candidate, from the records if they have them."""
        record = self.records.records.get(candidate)
        known = record is not None
        if not known:
            record = self._measure(candidate)
            # an undefined distance is an error before it is stored
            self.settings.scoring.scores([record.distances])
            self.records.add(record)
        self.asked[candidate] = record.distances
        self._print(record, known)
        return record.distances

    def _print(self, record: Record, known: bool) -> None:
        best = best_of(self.asked, self.settings.scoring)
        semantic = record.distances.semantic
        parts = [
            f'{len(self.asked)}/{self.settings.evaluations}',
            record.candidate.name,
            'semantic ' + ('-' if semantic is None else f'{semantic:.4g}'),
            f'relation {record.distances.relation:.4g}',
            f'{record.cost.flops / 1e6:.4g} M MACs',
            'known' if known else f'{record.seconds:.1f} s',
            f'best so far: {best.name}'
        ]
        print(' | '.join(parts), flush=True)

    def run(self) -> Record:
        """Search, and choose the best score.

        Raises:
            RuntimeError: If no candidate is within the limits.
        """
        settings, space = self.settings, self.evaluator.space
        common = (space, self.allowed, self.evaluate, settings.evaluations,
                  settings.seed)
        if settings.algorithm == 'random':
            history = random_search(*common)
        else:
            history = evolution(
                *common,
                settings.scoring,
                population=settings.population,
                tournament=settings.tournament,
                num_parents=settings.num_parents)
        if not history:
            smallest = min(self.refused.values(), key=lambda c: c.flops)
            raise RuntimeError(
                f'no candidate is within diswot.max_params='
                f'{settings.max_params}, diswot.max_flops='
                f'{settings.max_flops}; the one with fewest operations has '
                f'{smallest.params:,} parameters and {smallest.flops:,} '
                'multiply-accumulates')
        if len(history) < settings.evaluations:
            print(f'Nothing new was found after {len(history)} evaluations: '
                  'the space has no more within the limits')
        return self.records.records[best_of(history, settings.scoring)]


def prepare(cfg: Config,
            work_dir: Path,
            folder: str | None = None,
            resume: bool = False,
            device: str = 'cpu') -> Search:
    """Open the search of a config.

    Args:
        cfg (Config): Whole config, with the key ``diswot``.
        work_dir (Path): Where results go.
        folder (str | None): Where a relative path of the teacher starts.
        resume (bool): Whether to go on with results there.
        device (str): Where networks run.
    """
    settings = settings_of(cfg)
    try:
        space = TASK_UTILS.build(dict(settings.space))
    except (KeyError, TypeError) as error:
        raise ValueError(f'diswot.space: {error}') from error
    evaluator = Evaluator(
        cfg,
        space,
        settings.teacher,
        folder,
        batch_size=settings.batch_size,
        data=settings.data,
        seed=settings.seed,
        num_inits=settings.num_inits,
        init=settings.init,
        device=device)
    work_dir.mkdir(parents=True, exist_ok=True)
    records = Records(work_dir / 'scores.json', conditions(evaluator), resume)
    return Search(evaluator, records, settings)


def search(config: str,
           work_dir: Path,
           options: dict | None = None,
           resume: bool = False,
           device: str = 'cpu') -> Path:
    """Search, print and write what was found.

    Args:
        config (str): Path, or ``'mmcompress::folder/name.py'``.
        work_dir (Path): See :func:`prepare`, as ``resume`` and ``device``.
        options (dict | None): Keys of the config to override.

    Returns:
        Path: The config of the chosen student.
    """
    cfg = read_config(config, options)
    folder = None if '::' in config else str(Path(config).parent)
    running = prepare(cfg, work_dir, folder, resume, device)
    chosen = running.run()
    records = [running.records.records[c] for c in running.asked]
    scores = running.settings.scoring.scores([r.distances for r in records])
    text = report.table(records, scores)
    (work_dir / 'table.txt').write_text(f'{text}\n')
    report.picture(records, scores, chosen, work_dir / 'search.svg')
    path = report.write_config(cfg, config, bool(options),
                               running.evaluator.options(chosen.candidate),
                               chosen, running.records.conditions, work_dir)
    print(f'{text}\nChosen: {chosen.candidate.name}. Train it with: '
          f'python tools/train.py {path}')
    return path


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and search; what goes wrong is said in a line."""
    parser = argparse.ArgumentParser(
        prog='python -m diswot',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path, or mmcompress::folder/name.py')
    parser.add_argument(
        '--work-dir',
        type=Path,
        help="where results go; by default work_dirs/ and CONFIG's name")
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with the evaluations in the work dir')
    add_device(parser)
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    stem = Path(args.config.rpartition('::')[2]).stem
    MMLogger.get_instance('mmengine').setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            search(args.config, args.work_dir or Path('work_dirs', stem),
                   args.cfg_options, args.resume, args.device)
        except (OSError, ValueError, RuntimeError,
                FloatingPointError) as error:
            sys.exit(f'error: {error}')
