"""What did not pay is said, in the table's own units."""
from mmcompress.one_command.options import Options
from mmcompress.one_command.remarks import remarks
from mmcompress.results import Form, Latency, Record


def _said(scores: dict, milliseconds: dict, **asked) -> list[str]:
    few = 'w8a8' if 'bits' in asked else 'float'
    forms = [
        Form(
            name,
            bits='float' if name == 'float' else few,
            metrics={'accuracy/top1': score},
            latency=Latency(milliseconds[name], 1.0, 2.0, 20))
        for name, score in scores.items()
    ]
    record = Record(
        kind='compress',
        task='classification',
        model='ResNet',
        methods=['w8a8'],
        config='a.py',
        config_hash='0' * 12,
        forms=forms,
        metric='accuracy/top1',
        higher_is_better=True)
    return remarks(record, Options('a.py', 'a.pth', **asked))


def test_a_loss_is_that_of_the_table():
    said = _said(
        dict(float=44.2, compressed=42.7), dict(float=2.0, compressed=2.0),
        bits='w4a8')  # yapf: disable
    assert said[0].startswith('top-1 %: -1.5 against float. What may help: ')
    assert '--bits 8' in said[0] and '--train' in said[0]
    said = _said(
        dict(float=61.0, compressed=20.8), dict(float=2.0, compressed=1.0),
        prune=0.3, epochs=1)  # yapf: disable
    assert said[0].endswith('more --epochs, a smaller --prune')


def test_noise_is_no_loss_and_packed_is_what_to_deploy():
    said = _said(
        dict(float=44.2, compressed=44.1, packed=44.1),
        dict(float=2.0, compressed=5.0, packed=1.0),
        bits='8')
    assert len(said) == 1 and 'packed is what to deploy' in said[0]


def test_a_packed_model_that_is_slower_is_named():
    said = _said(
        dict(float=44.2, compressed=44.2, packed=44.2),
        dict(float=2.0, compressed=5.0, packed=2.5),
        bits='8')
    assert said[0] == 'packed: not faster than float here (0.80 times as fast)'


def test_only_with_fewer_channels_or_tokens_it_should_be_faster():
    scores = dict(float=44.2, compressed=44.2)
    milliseconds = dict(float=2.0, compressed=2.0)
    assert not _said(scores, milliseconds, distill_from=('b.py', 'b.pth'))
    said, = _said(scores, milliseconds, prune=0.3)
    assert said.startswith('The compressed model is not faster')
