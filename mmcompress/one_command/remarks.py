"""Sentences about what did not pay, from what was measured."""
from mmcompress.results import Form, Record
from mmcompress.results.metrics import describe
from .options import Options

# changes below these are noise on most data and machines
_METRIC = 0.002
_FASTER = 1.05
# a loss of so much of the metric is worth a word
_LARGE = 0.02


def _metric(record: Record, form: Form | None) -> float | None:
    return form.metrics.get(record.metric) if form else None


def _gain(record: Record, form: Form | None, other: Form | None,
          least: float) -> float | None:
    """How much better a form is than another, as a share of the other."""
    ours, theirs = _metric(record, form), _metric(record, other)
    if ours is None or theirs is None:
        return None
    gain = (ours - theirs) / max(abs(theirs), 1e-9)
    gain = gain if record.higher_is_better else -gain
    return gain if abs(gain) >= least else 0.0


def _of_teacher(record: Record) -> list[str]:
    alone = record.form('student alone')
    gain = _gain(record, record.form('compressed'), alone, _METRIC)
    if gain is None or gain > 0:
        return []
    word = 'no better than' if gain == 0 else 'worse than'
    return [
        f'The teacher did not help: distilled, the model is {word} the '
        'student alone, trained as long. Another recipe (--recipe), more '
        'epochs, or a better teacher may; one run of each says little '
        'about small differences'
    ]


def _of_training(record: Record) -> list[str]:
    before = record.form('without training')
    gain = _gain(record, record.form('compressed'), before, _METRIC)
    if gain is None or gain > 0:
        return []
    return [
        'Training did not help: the scales that images gave, without '
        f'training, are {"as good" if gain == 0 else "better"}. Without '
        '--train the result is there in minutes'
    ]


def _of_metric(record: Record, options: Options) -> list[str]:
    loss = _gain(record, record.form('compressed'), record.forms[0], _LARGE)
    if loss is None or loss >= 0:
        return []
    ways = []
    if not options.trains:
        ways.append('--train')
    if options.bits in ('w4a4', 'ternary', '1'):
        ways.append('--bits w4a8 or 8')
    elif options.bits == 'w4a8':
        ways.append('--bits 8')
    if not options.distill_from:
        ways.append('--distill-from a larger model')
    if options.trains and options.epochs is None:
        ways.append('more --epochs')
    name = describe(record.metric).name.removesuffix(' %')
    return [
        f'{-100 * loss:.1f} % of the {name} is lost. What may help: '
        f'{", ".join(ways)}'
    ]


def _of_speed(record: Record) -> list[str]:
    """What is not faster, and why not."""
    first = record.forms[0].latency
    said = []
    for name in ('packed', 'onnx'):
        form = record.form(name)
        if first is None or form is None or form.latency is None:
            continue
        times = first.median / form.latency.median
        if times < _FASTER:
            said.append(f'{name}: not faster than float here '
                        f'({times:.2f} times as fast)')
    form = record.form('compressed')
    if (form and form.latency and first and form.bits == 'float'
            and first.median / form.latency.median < _FASTER):
        said.append('The compressed model is not faster than the float one '
                    'on this machine')
    return said


def remarks(record: Record, options: Options) -> list[str]:
    """What a user should know that the table does not say by itself.

    Args:
        record (Record): With all forms.
        options (Options): What was asked for.
    """
    return [
        *_of_metric(record, options), *_of_teacher(record),
        *_of_training(record), *_of_speed(record)
    ]
