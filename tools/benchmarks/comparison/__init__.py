"""Compare methods on the mini data: trainings, records, gains."""
from .gains import Gain, Summary, is_teacher, summarize, verdict
from .records import Records
from .trainings import Training, TrainingFailed, ensure_trained

__all__ = [
    'Gain', 'Records', 'Summary', 'Training', 'TrainingFailed',
    'ensure_trained', 'is_teacher', 'summarize', 'verdict'
]
