import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'benchmark.py'
spec = importlib.util.spec_from_file_location('benchmark', TOOL)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_speed_is_relative_to_the_faster_float_of_the_same_round():
    seconds = {
        'float': [6.0] * 6,
        'float, channels last': [4.0, 4.0, 4.0, 8.0, 4.0, 4.0],
        'packed': [1.0, 1.0, 1.0, 1.0, 2.0, 1.0]
    }
    assert benchmark.fastest_float(seconds) == 'float, channels last'
    speed_up = benchmark.speed_ups(seconds)
    assert speed_up['float, channels last']['median'] == 1
    assert speed_up['packed'] == dict(median=4, interval=(2.0, 8.0))
    assert speed_up['float']['median'] == pytest.approx(2 / 3)


def test_median_of_a_part_takes_rounds_without_it_as_zero():
    rounds = [dict(a=1.0, rest=2.0), dict(a=3.0, rest=2.0), dict(rest=5.0)]
    assert benchmark.medians_of_parts(rounds) == dict(a=1.0, rest=2.0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the tool; returns what it wrote."""
    threads = torch.get_num_threads()

    def call(config, *arguments):
        monkeypatch.setattr('sys.argv', [
            str(TOOL),
            str(ROOT / 'configs' / config), *arguments, '--rounds', '6',
            '--out',
            str(tmp_path)
        ])
        benchmark.main()
        assert len(list(tmp_path.glob('*.png'))) == 1
        path, = tmp_path.glob('*.json')
        assert 'Where the time is' in path.with_suffix('.txt').read_text()
        return json.loads(path.read_text())

    yield call
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings('ignore:1-bit operators run on the slow')
def test_a_detector_is_timed_whole_with_its_parts(run, capsys):
    result = run('ida_det/ida_det_student_mini.py', '--whole', '--shape', '64',
                 '64', '--clock', 'cpu')
    assert result['shape'] == [1, 3, 64, 64] and result['mode'] == 'predict'
    assert result['seed'] == 0
    assert result['threads'] == 1 and '1 thread,' in result['machine']
    assert set(result['forms']) == {
        'float', 'float, channels last', 'as trained', 'packed'
    }
    for form in result['forms'].values():
        assert set(form['parts']) == {
            'backbone', 'neck', 'rpn_head', 'roi_head', 'rest'
        }
        assert form['fastest'] <= form['median'] <= form['slowest']
        assert form['proposals'] > 0
    text = capsys.readouterr().out
    assert 'times as fast as the faster float' in text
    assert 'roi_head' in text


@pytest.mark.filterwarnings('ignore:1-bit operators run on the slow')
def test_a_checkpoint_and_a_batch_can_be_given(run, tmp_path):
    from mmcompress.analysis.subject import build_subject, read_config
    config = 'react/react_r18_mini.py'
    model = build_subject(read_config(str(ROOT / 'configs' / config)))
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    result = run(config, str(path), '--shape', '32', '32', '--batch', '2')
    assert result['checkpoint'] == str(path)
    assert result['shape'] == [2, 3, 32, 32]
    assert set(result['forms']['packed']['parts']) == {
        'backbone', 'neck', 'head', 'rest'
    }


@pytest.mark.filterwarnings('ignore:1-bit operators run on the slow')
def test_a_network_of_point_clouds_is_timed_where_floats_are_limited(
        run, tmp_path, monkeypatch):
    # too late for torch to take notice
    monkeypatch.setenv('ATEN_CPU_CAPABILITY', 'avx2')
    result = run('poem/poem_pointnet_mini.py', '--shape', '3', '64')
    assert result['shape'] == [1, 3, 64]
    assert 'packed' in result['forms']
    assert result['fp32_limits'] == dict(ATEN_CPU_CAPABILITY='avx2')
    text, = tmp_path.glob('*_limited_fp32.txt')
    assert 'ATEN_CPU_CAPABILITY=avx2' in text.read_text()
