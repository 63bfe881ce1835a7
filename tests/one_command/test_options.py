"""What is asked for is refused in words before anything is read."""
import pytest
from mmengine.config import Config

from mmcompress.one_command.options import Options, Refused
from mmcompress.one_command.plan import _by_reason
from mmcompress.one_command.state import State, contents


@pytest.mark.parametrize('asked, said', [
    (dict(), 'nothing to do: give --bits'),
    (dict(bits='3'), '--bits 3: it is one of 8, w4a8, w4a4, ternary, 1'),
    (dict(bits='1'), '--bits 1 needs training'),
    (dict(bits='ternary'), '--bits ternary needs training'),
    (dict(prune=1.5), '--prune 1.5: the share that goes'),
    (dict(tokens=0), '--tokens 0: at least 1'),
    (dict(bits='8', epochs=0), '--epochs 0: at least 1'),
    (dict(bits='8', recipe='fgd'), 'it needs --distill-from'),
    (dict(export='tflite'), '--export tflite: it is one of onnx'),
    (dict(distill_from=('a.py', )), '--distill-from takes two'),
])
def test_refusals_say_what_would_work(asked, said):
    with pytest.raises(Refused, match=said):
        Options('a.py', 'a.pth', **asked)


@pytest.mark.parametrize('trained', [
    dict(train=True),
    dict(epochs=2),
    dict(distill_from=('t.py', 't.pth')),
])
def test_one_bit_is_taken_with_any_training(trained):
    assert Options('a.py', 'a.pth', bits='1', **trained).trains


def test_the_command_says_what_was_asked():
    options = Options(
        'a.py',
        'a.pth',
        bits='8',
        distill_from=('t.py', 't.pth'),
        prune=0.5,
        exclude=['neck.*'],
        metric=False,
        keep_slow=True,
        export='onnx',
        cfg_options={'work_dir': 'x'})
    assert options.command() == (
        'python tools/compress.py a.py a.pth --distill-from t.py t.pth '
        "--bits 8 --prune 0.5 --export onnx --exclude 'neck.*' --keep-slow "
        '--no-metric --cfg-options work_dir=x')


def test_a_run_goes_on_with_the_same_options(tmp_path):
    options = Options('a.py', 'a.pth', bits='8')
    State(tmp_path, options).finish('pack', 'packed.pth')
    # what is only looked at may differ
    again = State(tmp_path, Options('a.py', 'a.pth', bits='8', metric=False))
    assert again['pack'] == 'packed.pth' and 'train' not in again


def test_other_options_need_another_folder(tmp_path):
    State(tmp_path, Options('a.py', 'a.pth', bits='8'))
    with pytest.raises(Refused, match='bits: 8 there, w4a8 now'):
        State(tmp_path, Options('a.py', 'a.pth', bits='w4a8'))


def test_a_run_of_other_weights_does_not_go_on(tmp_path):
    weights = tmp_path / 'a.pth'
    weights.write_bytes(b'one')
    options = Options('a.py', str(weights), bits='8')
    cfg = Config(dict(model=dict(type='A')))
    folder = tmp_path / 'run'
    State(folder, options, contents(options, cfg)).finish('pack', 'x')
    assert 'pack' in State(folder, options, contents(options, cfg))
    weights.write_bytes(b'two')
    with pytest.raises(Refused, match='before the checkpoint changed'):
        State(folder, options, contents(options, cfg))
    cfg.model.type = 'B'
    with pytest.raises(Refused, match='before the config and the checkpoint'):
        State(folder, options, contents(options, cfg))


def test_a_run_of_another_teacher_does_not_go_on(tmp_path):
    options = Options('a.py', 'a.pth', distill_from=('t.py', 't.pth'))
    cfg, teacher = Config(dict(model=1)), Config(dict(model=2))
    State(tmp_path / 'run', options, contents(options, cfg, teacher))
    teacher.model = 3
    with pytest.raises(Refused, match='before the config of the teacher'):
        State(tmp_path / 'run', options, contents(options, cfg, teacher))


def test_the_command_names_the_folder():
    said = Options('a.py', 'a.pth', bits='8', work_dir='there').command()
    assert said.endswith('--bits 8 --work-dir there')


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(Refused, match='--work-dir: .* can not be made'):
        State(tmp_path / 'file' / 'run', Options('a.py', 'a.pth', bits='8'))


def test_a_reason_is_said_once():
    lines = _by_reason({'a': 'small', 'b': 'sees the image', 'c': 'small'})
    assert [line.strip() for line in lines] == [
        'stays float: a, c (small)', 'stays float: b (sees the image)'
    ]
