"""`make demo`: a 1-bit detector learns from a real-valued one, in minutes.

Renders the mini data, trains the teacher (kept for the next time), then the
1-bit student with IDa-Det, tests both, prints a table and draws a picture.
Everything runs through tools/train.py and tools/test.py, as by hand.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import time
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


def describe(model: torch.nn.Module) -> list[str]:
    """Parameters and bits of a detector, for the table."""
    from mmcompress.binary import IDaDetConv2d
    from mmcompress.model.checkpoint import is_plain
    binary = sum(m.weight.numel() for m in model.modules()
                 if isinstance(m, IDaDetConv2d))  # yapf: disable
    total = sum(p.numel() for name, p in model.named_parameters()
                if is_plain(name))
    size = (4 * (total - binary) + binary / 8) / 2**20
    bits = (32 * (total - binary) + binary) / total
    return [f'{total:,}', f'{binary:,}', f'{bits:.1f}', f'{size:.2f} MiB']


def draw(models: dict, path: Path, num_images: int = 3) -> None:
    """Ground truth and detections side by side, for a few images.

    Args:
        models (dict): Column title -> detector.
        path (Path): PNG to write.
        num_images (int): Rows, images of the validation set.
    """
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from mmdet.apis import inference_detector
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from mmcompress.registry import DATASETS
    cfg = Config.fromfile(str(STUDENT))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    classes = dataset.metainfo['classes']
    colors = [[c / 255 for c in color]
              for color in dataset.metainfo['palette']]
    titles = ['ground truth', *models]
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
        for model in models.values():
            result = inference_detector(model, info['img_path']).pred_instances
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
    from mmcompress.tables import format_table
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
    aps = [
        test(TEACHER, teacher, work_dir / 'test_teacher'),
        test(STUDENT, student, work_dir / 'test_student')
    ]

    from mmdet.apis import init_detector
    models = {
        f'{name} (AP {100 * ap:.1f})': init_detector(
            str(config), str(checkpoint), device='cpu', cfg_options={})
        for name, ap, config, checkpoint in (
            ('teacher', aps[0], TEACHER, teacher),
            ('1-bit student', aps[1], STUDENT, student))
    }  # yapf: disable
    say(
        format_table('Handwritten digits on photos, Faster R-CNN', [
            'model', 'box AP', 'parameters', 'of them 1-bit',
            'bits per parameter', 'size at these bits'
        ], [[name.split(' (')[0], f'{100 * ap:.1f}', *describe(model)]
            for (name, model), ap in zip(models.items(), aps)]))
    picture = work_dir / 'demo.png'
    draw(models, picture)
    minutes, seconds = divmod(int(time.time() - start), 60)
    say(f'\nground truth, teacher and student side by side: {picture}\n'
        f'student: {student}\n{minutes} min {seconds} s')


if __name__ == '__main__':
    main()
