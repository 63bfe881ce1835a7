import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

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
        assert form['proposals'] == result['forms']['packed']['proposals'] > 0
        assert sum(form['parts'].values()) == pytest.approx(form['median'])
    assert result['proposals_from'] == 'as trained'
    text = capsys.readouterr().out
    assert 'times as fast as the faster float' in text
    assert 'roi_head' in text


@pytest.mark.filterwarnings('ignore:1-bit operators run on the slow')
def test_a_checkpoint_and_a_batch_can_be_given(run, tmp_path):
    from mmcompress.analysis.subject import build_subject
    from mmcompress.model.config import read_config
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


class Rpn(torch.nn.Module):
    """Proposes a number of boxes."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def predict(self, features, samples, rescale=False):
        """As mmdet's, per image."""
        return [
            InstanceData(bboxes=torch.full((self.number, 4), self.number))
            for _ in features
        ]


class RoI(torch.nn.Module):
    """Remembers what it gets."""

    def predict(self, features, proposals, samples):
        """As mmdet's."""
        self.seen = proposals


class TwoStage(torch.nn.Module):
    """A detector of two stages without anything inside."""

    def __init__(self, number):
        super().__init__()
        self.rpn_head, self.roi_head = Rpn(number), RoI()
        self.test_cfg = ConfigDict(rpn=dict(max_per_img=7))

    def forward(self, inputs, data_samples, mode):
        """Both stages."""
        found = self.rpn_head.predict(inputs, data_samples, rescale=False)
        self.roi_head.predict(inputs, found, data_samples)


def shared(**numbers):
    """Boxes that each form's second stage gets, of the first image."""
    models = {name.replace('_', ' '): TwoStage(n)
              for name, n in numbers.items()}  # yapf: disable
    batch = dict(inputs=torch.zeros(2, 3, 8, 16), data_samples=None)
    origin = benchmark.share_proposals(models, batch, 'tensor')
    for model in models.values():
        model(**batch, mode='tensor')
    seen = [model.roi_head.seen for model in models.values()]
    assert all(len(boxes) == 2 for boxes in seen)
    return origin, [boxes[0].bboxes for boxes in seen]


def test_all_forms_pool_what_the_trained_model_proposes():
    origin, boxes = shared(float=0, as_trained=5, packed=4)
    assert origin == 'as trained'
    assert all(torch.equal(b, torch.full((5, 4), 5)) for b in boxes)


def test_boxes_are_made_up_where_nothing_is_proposed():
    origin, boxes = shared(float=3, as_trained=0)
    assert origin == 'made up' and torch.equal(*boxes)
    x1, y1, x2, y2 = boxes[0].unbind(1)
    assert len(x1) == 7 and (x1 <= x2).all() and (y1 <= y2).all()
    assert x2.max() <= 16 and y2.max() <= 8


def test_a_network_of_one_stage_has_nothing_to_share():
    model = torch.nn.Linear(2, 2)
    assert benchmark.share_proposals(dict(float=model), {}, 'tensor') is None


def test_parts_add_up_to_the_median_that_the_table_shows():
    rounds = [dict(a=1.0, rest=8.0), dict(a=5.0, rest=1.0),
              dict(a=2.0, rest=2.0)]  # yapf: disable
    parts = benchmark.parts_of(rounds, 6.0)
    assert sum(parts.values()) == pytest.approx(6.0)
    assert parts['a'] == pytest.approx(parts['rest'])


def test_by_tomes_protocol_merging_stands_beside_all_tokens(
        monkeypatch, capsys, tmp_path):
    config = str(ROOT / 'configs' / 'tome' / 'tome_vit_r12_mini.py')
    monkeypatch.setattr('sys.argv', [
        str(TOOL), config, '--protocol', 'tome', '--batch', '2', '--rounds',
        '4', '--out', str(tmp_path / 'none')
    ])  # yapf: disable
    benchmark.main()
    printed = capsys.readouterr().out
    assert '2 x 3 x 32 x 32, float32, 4 runs, wall time' in printed
    rows = [line.split('|')[2] for line in printed.splitlines()
            if line.startswith(('| as ', '| with all'))]  # yapf: disable
    merged, dense = map(float, rows)
    assert merged < 0.7 * dense
    assert 'times as fast as with all tokens\n' in printed
    # its defaults
    monkeypatch.setattr('sys.argv', [str(TOOL), config, '--protocol', 'tome'])
    args = benchmark.parse_args()
    assert (args.batch, args.rounds) == (64, 40)
    monkeypatch.setattr('sys.argv', [str(TOOL), config])
    args = benchmark.parse_args()
    assert (args.batch, args.rounds) == (1, 15)
