import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch

TOOL = Path(
    __file__).parents[2] / 'tools' / 'analysis_tools' / 'plot_packed.py'
spec = importlib.util.spec_from_file_location('plot_packed', TOOL)
plot_packed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plot_packed)


def timed(median, speed_up):
    return dict(median=median, speed_up=dict(median=speed_up))


LATENCY = {
    'config': 'configs/net.py',
    'shape': [1, 3, 8, 8],
    'machine': 'a machine',
    'forms': {
        'float': timed(0.012, 0.75),
        'float, channels last': timed(0.009, 1.0),
        'packed': timed(0.002, 4.4)
    }
}


def write_test(work_dir, name, metrics, time):
    path = work_dir / name / f'{name}.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(metrics))
    os.utime(path, (time, time))


@pytest.fixture
def files(tmp_path):
    (tmp_path / 'latency.json').write_text(json.dumps(LATENCY))
    for name, size in (('trained', 32_000), ('packed', 1_000)):
        torch.save(
            dict(
                state_dict={
                    'weight': torch.zeros(size),
                    'distill.loss_kd.weight': torch.zeros(9_000)
                },
                optimizer=torch.zeros(64_000)), tmp_path / f'{name}.pth')
    for name, top1 in (('trained', 91.0), ('packed', 90.5)):
        work_dir = tmp_path / f'test_{name}'
        metrics = {'accuracy/top1': top1, 'accuracy/top5': 99.0}
        write_test(work_dir, '20260102_000000', metrics, 2000)
        write_test(work_dir, '20260101_000000', {'accuracy/top1': 1.0}, 1000)
    return tmp_path


@pytest.fixture
def run(files, monkeypatch):
    """Call the tool; returns the numbers that it wrote."""

    def call(*options, form='packed'):
        out = files / 'out' / 'plot.svg'
        arguments = [str(out), '--latency', str(files / 'latency.json')]
        for label, name in (('float net', 'float'), ('small', form)):
            kind = 'trained' if name == 'float' else 'packed'
            arguments += [
                '--model', label, name,
                str(files / f'{kind}.pth'),
                str(files / f'test_{kind}')
            ]
        monkeypatch.setattr('sys.argv', [str(TOOL), *arguments, *options])
        plot_packed.main()
        return json.loads(out.with_suffix('.json').read_text())

    return call


def test_numbers_are_those_of_the_test_and_of_the_benchmark(run, capsys):
    result = run()
    trained, packed = result['forms']
    assert (trained['label'], packed['label']) == ('float net', 'small')
    assert (trained['accuracy'], packed['accuracy']) == (91.0, 90.5)
    # the faster layout
    assert trained['latency'] == 0.009 and packed['latency'] == 0.002
    assert packed['speed_up'] == 4.4
    assert result['metric'] == 'accuracy/top1'
    assert result['machine'] == 'a machine'
    assert '4.40' in capsys.readouterr().out


def test_table_and_picture_show_the_same_numbers(run, files, capsys):
    run()
    table = capsys.readouterr().out
    picture = (files / 'out' / 'plot.svg').read_text()
    for latency, ratio in (('9.0', '1.00'), ('2.0', '4.40')):
        assert latency in table and ratio in table
        assert f'{latency} ({ratio} x)' in picture
    for shown in ('top-1 %', '91.0', '90.5'):
        assert shown in table and f'>{shown}<' in picture


def test_ratios_are_to_the_first_form(run, files, monkeypatch):
    latency = json.loads(json.dumps(LATENCY))
    latency['forms']['as trained'] = timed(0.018, 0.5)
    (files / 'latency.json').write_text(json.dumps(latency))
    out = files / 'out.svg'
    monkeypatch.setattr('sys.argv', [
        str(TOOL),
        str(out), '--latency',
        str(files / 'latency.json'), '--model', 'a', 'as trained',
        str(files / 'trained.pth'),
        str(files / 'test_trained'), '--model', 'b', 'packed',
        str(files / 'packed.pth'),
        str(files / 'test_packed')
    ])
    plot_packed.main()
    forms = json.loads(out.with_suffix('.json').read_text())['forms']
    assert [form['speed_up'] for form in forms] == [1.0, 8.8]


def test_size_is_that_of_the_weights_alone(run):
    for form, numbers in zip(run()['forms'], (32_000, 1_000)):
        assert 4 * numbers < form['size'] < 4 * numbers + 2_000


def test_picture_shows_the_numbers_and_depends_on_nothing_else(run, files):
    picture = files / 'out' / 'plot.svg'
    run('--metric', 'accuracy/top5')
    first = picture.read_bytes()
    for text in (b'float net', b'top-5 %', b'99.0', b'a machine'):
        assert text in first
    run('--metric', 'accuracy/top5')
    assert picture.read_bytes() == first


def test_what_was_not_measured_is_an_error(run, files):
    with pytest.raises(ValueError, match='no metric coco/bbox_mAP; it has'):
        run('--metric', 'coco/bbox_mAP')
    with pytest.raises(ValueError, match="'as trained' is not among"):
        run(form='as trained')
    for file in files.glob('test_packed/*/*.json'):
        file.unlink()
    with pytest.raises(FileNotFoundError, match='run tools/test.py'):
        run()
