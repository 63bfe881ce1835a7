"""`make demo`: a 1-bit detector learns from a real-valued one, in minutes.

Renders the mini data, trains the teacher (kept for the next time), then the
1-bit student with IDa-Det, packs it, tests and times all three, prints a table
of size, latency and accuracy, and draws two pictures. Everything but the
timing runs through tools/train.py, tools/test.py and tools/deploy/pack.py, as
by hand.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# A thread of OpenMP that waits for the others spins by default, and takes a
# core from whatever they compete with. Read when torch is imported; the tools
# that run below inherit it.
if not {'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'} & set(os.environ):
    os.environ['OMP_WAIT_POLICY'] = 'passive'

import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TEACHER = ROOT / 'configs' / 'ida_det' / 'ida_det_teacher_mini.py'
STUDENT = ROOT / 'configs' / 'ida_det' / 'ida_det_r18_mini.py'
# measurements of each model's latency
ROUNDS = 40
TRAINING = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?'
                      r'eta: (\S+).* loss: (\S+)')


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def run(arguments: list[str], work_dir: Path) -> None:
    """Run a tool, and show how far it is.

    Args:
        arguments (list[str]): Path of the tool and its arguments.
        work_dir (Path): Receives everything that it prints.
    """
    shown = [a.replace(f'{ROOT}/', '') for a in arguments]
    say(f'\n$ python {" ".join(shown)}')
    work_dir.mkdir(parents=True, exist_ok=True)
    log = work_dir / 'output.log'
    last = 0.0
    with open(log, 'w') as out:
        process = subprocess.Popen([sys.executable, *arguments],
                                   cwd=ROOT,
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT,
                                   text=True)
        for line in process.stdout:
            out.write(line)
            match = TRAINING.search(line)
            if match and time.time() - last > 5:
                last = time.time()
                epoch, step, steps, eta, loss = match.groups()
                say(f'  epoch {epoch}, step {step}/{steps}: loss {loss}, '
                    f'{eta} to go')
            elif 'coco/bbox_mAP:' in line:
                ap = re.search(r'coco/bbox_mAP: (\S+)', line)
                say(f'  box AP on the validation images: {ap[1]}')
    if process.wait():
        sys.exit(f'{"".join(log.read_text().splitlines(True)[-30:])}\n'
                 f'It failed; all of its output is in {log}')


def test(config: Path, checkpoint: Path, work_dir: Path) -> float:
    """Box AP (COCO, IoU 0.5 to 0.95) as tools/test.py measures it."""
    run([
        str(ROOT / 'tools' / 'test.py'),
        str(config),
        str(checkpoint), '--work-dir',
        str(work_dir)
    ], work_dir)
    newest = max(work_dir.glob('*/*.json'), key=lambda p: p.stat().st_mtime)
    return json.loads(newest.read_text())['coco/bbox_mAP']


def num_parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Parameters of a detector, and how many of them are 1-bit weights."""
    from mmcompress.binary import IDaDetConv2d
    from mmcompress.model.checkpoint import is_plain
    binary = sum(m.weight.numel() for m in model.modules()
                 if isinstance(m, IDaDetConv2d))  # yapf: disable
    total = sum(p.numel() for name, p in model.named_parameters()
                if is_plain(name))
    return total, binary


@dataclass
class Form:
    """A detector that is tested, timed and drawn.

    Attributes:
        label (str): What it is called.
        config (Path): Its config.
        checkpoint (Path): Its weights.
        ap (float): Box AP on the validation images, in percent.
        model (nn.Module): Ready for inference.
        seconds (list[float]): For an image, one entry per round.
    """
    label: str
    config: Path
    checkpoint: Path
    ap: float = 0.0
    model: 'torch.nn.Module | None' = None
    seconds: 'list[float] | None' = None

    def latency(self) -> str:
        """Milliseconds, median and 95 % interval."""
        from mmcompress.analysis.timing import median_interval
        low, high = median_interval(self.seconds)
        return (f'{1000 * statistics.median(self.seconds):.1f} '
                f'[{1000 * low:.1f}, {1000 * high:.1f}]')

    def ratios(self, base: 'Form') -> list[float]:
        """How many times as fast as another form, by round."""
        return [a / b for a, b in zip(base.seconds, self.seconds)]


def validation_data():
    """The data set on which all forms are tested."""
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from mmcompress.registry import DATASETS
    cfg = Config.fromfile(str(STUDENT))
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(cfg.val_dataloader.dataset)


def measure(forms: list[Form], dataset, rounds: int = ROUNDS) -> None:
    """Time all forms in turn, each round on the next image of the data.

    Trained weights and real images, so the second stages get the proposals
    that the models make. One thread; preprocessing is not counted.

    Args:
        forms (list[Form]): With models; receive their ``seconds``.
        dataset (BaseDataset): Has at least as many images as rounds.
        rounds (int): Measurements of each form.
    """
    from mmengine.dataset import pseudo_collate

    from mmcompress.analysis.timing import interleaved
    warm_up = 3
    images = [dataset[i] for i in range(rounds + warm_up)]

    def call(model):
        batches = iter([
            model.data_preprocessor(pseudo_collate([image]), False)
            for image in images
        ])
        return lambda: model(**next(batches), mode='predict')

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        seconds = interleaved({form.label: call(form.model)
                               for form in forms}, rounds, warm_up)
    torch.set_num_threads(threads)
    for form in forms:
        form.seconds = seconds[form.label]


def plot_packed():
    """tools/analysis_tools/plot_packed.py as a module."""
    sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))
    import plot_packed as module
    return module


def as_table(forms: list[Form], sizes: list[int], title: str) -> str:
    """Accuracy, size and latency of the forms.

    Args:
        forms (list[Form]): The first is what the others are compared with.
        sizes (list[int]): Bytes of the weights in their files.
        title (str): Line above the table.
    """
    from mmcompress.analysis.timing import median_interval
    from mmcompress.tables import format_table
    rows = []
    for form, size in zip(forms, sizes):
        ratios = form.ratios(forms[0])
        low, high = median_interval(ratios)
        rows.append([
            form.label, f'{form.ap:.1f}', f'{size / 1e6:.2f}',
            f'{sizes[0] / size:.1f} x',
            form.latency(), f'{statistics.median(ratios):.2f} '
            f'[{low:.2f}, {high:.2f}]'
        ])
    return format_table(title, [
        'model', 'box AP', 'MB', 'smaller', 'ms per image [95 %]',
        'times as fast [95 %]'
    ], rows)


def summarize(forms: list[Form], picture: Path) -> None:
    """Time the forms; print the table and draw its bars.

    Args:
        forms (list[Form]): Teacher, student as trained, and packed.
        picture (Path): PNG to write.
    """
    from mmcompress.analysis.timing import machine
    from mmcompress.ops import build_info
    from mmcompress.results.metrics import Metric
    dataset = validation_data()
    measure(forms, dataset)
    plots = plot_packed()
    sizes = [plots.size_of(str(form.checkpoint)) for form in forms]
    torch.set_num_threads(1)
    where = machine('cpu')
    total, binary = num_parameters(forms[1].model)
    say(as_table(forms, sizes, 'Handwritten digits on photos, Faster R-CNN'))
    say(f'box AP on {len(dataset)} images. MB: 10^6 bytes of weights in the '
        f'file; {binary:,} of the student\'s {total:,} parameters are 1-bit.\n'
        f'ms: median of {ROUNDS} images with 95 % interval, without '
        f'preprocessing, {where}.')
    if build_info()['reason']:
        say('No compiled kernels here, so the packed model is slow: '
            f'{build_info()["reason"]}')
    plots.draw([
        plots.Form(form.label, size, statistics.median(form.seconds),
                   statistics.median(form.ratios(forms[0])), form.ap)
        for form, size in zip(forms, sizes)
    ], Metric('box AP', digits=1), where, picture)


def draw(forms: list[Form], path: Path, num_images: int = 3) -> None:
    """Ground truth and detections side by side, for a few images.

    Args:
        forms (list[Form]): A column each.
        path (Path): PNG to write.
        num_images (int): Rows, images of the validation set.
    """
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from mmdet.apis import inference_detector
    dataset = validation_data()
    classes = dataset.metainfo['classes']
    colors = [[c / 255 for c in color]
              for color in dataset.metainfo['palette']]
    titles = ['ground truth']
    titles += [f'{form.label} (AP {form.ap:.1f})' for form in forms]
    figure, axes = plt.subplots(
        num_images,
        len(titles),
        squeeze=False,
        figsize=(4 * len(titles), 3.3 * num_images))
    # images with several objects show most
    order = sorted(
        range(len(dataset)),
        key=lambda i: -len(dataset.get_data_info(i)['instances']))
    for row, index in enumerate(order[:num_images]):
        info = dataset.get_data_info(index)
        image = plt.imread(info['img_path'])
        found = [[(*instance['bbox'], instance['bbox_label'], None)
                  for instance in info['instances']]]
        for form in forms:
            result = inference_detector(form.model, info['img_path'])
            result = result.pred_instances
            result = result[result.scores > 0.4].cpu().numpy()
            found.append([(*box, label, score) for box, label, score in zip(
                result.bboxes, result.labels, result.scores)])
        for axis, title, boxes in zip(axes[row], titles, found):
            axis.imshow(image)
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title)
            for x1, y1, x2, y2, label, score in boxes:
                axis.add_patch(
                    plt.Rectangle((x1, y1),
                                  x2 - x1,
                                  y2 - y1,
                                  fill=False,
                                  linewidth=1.5,
                                  edgecolor=colors[label]))
                text = classes[label] + (f' {score:.2f}' if score else '')
                axis.text(
                    x1,
                    y1 - 1,
                    text,
                    fontsize=7,
                    color='white',
                    bbox=dict(facecolor=colors[label], pad=0.5, linewidth=0))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--work-dir', type=Path, default=ROOT / 'work_dirs' / 'demo')
    args = parser.parse_args()
    start = time.time()
    work_dir = args.work_dir.absolute()

    from mmengine.config import Config

    import mmcompress.compat  # noqa: F401
    from mmcompress.datasets import ensure_mini_data
    from mmcompress.model.cached import find_cached
    say(f'mini data: {ensure_mini_data()}')

    cfg = Config.fromfile(str(TEACHER))
    teacher = find_cached(TEACHER.stem, cfg)
    train = str(ROOT / 'tools' / 'train.py')
    if teacher.exists():
        say(f'the teacher was trained before: {teacher}')
    else:
        run([train,
             str(TEACHER), '--work-dir',
             str(work_dir / 'teacher')], work_dir / 'teacher')
    run([train, str(STUDENT), '--work-dir',
         str(work_dir / 'student')], work_dir / 'student')
    student = Path((work_dir / 'student' / 'last_checkpoint').read_text())
    packed = work_dir / 'packed' / 'student.pth'
    run([
        str(ROOT / 'tools' / 'deploy' / 'pack.py'),
        str(STUDENT),
        str(student),
        str(packed)
    ], packed.parent)
    forms = [
        Form('teacher, float', TEACHER, teacher),
        Form('student, 1-bit as trained', STUDENT, student),
        Form('student, packed', packed.with_suffix('.py'), packed)
    ]

    from mmdet.apis import init_detector
    for form, name in zip(forms, ('teacher', 'student', 'packed')):
        form.ap = 100 * test(form.config, form.checkpoint,
                             work_dir / f'test_{name}')
        # a distillation's config has no backbone for init_detector to look at
        form.model = init_detector(
            str(form.config),
            str(form.checkpoint),
            device='cpu',
            cfg_options={})
    bars, picture = work_dir / 'packed.png', work_dir / 'demo.png'
    summarize(forms, bars)
    draw(forms, picture)
    minutes, seconds = divmod(int(time.time() - start), 60)
    say(f'\nground truth and predictions side by side: {picture}\n'
        f'size, latency and AP as bars: {bars}\n'
        f'packed student: {packed}, with {packed.with_suffix(".py").name}\n'
        f'{minutes} min {seconds} s')


if __name__ == '__main__':
    main()
