"""Compare methods on the mini data: trainings, records, gains."""
from .gains import Gain, Summary, is_origin, summarize, verdict
from .records import Records
from .table import Entry, Table, Task
from .trainings import Training, TrainingFailed, ensure_trained

__all__ = [
    'Entry', 'Gain', 'Records', 'Summary', 'Table', 'Task', 'Training',
    'TrainingFailed', 'ensure_trained', 'is_origin', 'summarize', 'verdict'
]
