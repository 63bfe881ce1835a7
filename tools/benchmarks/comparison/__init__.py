"""Compare methods on the mini data: trainings, records, gains."""
from .gains import Gain, Summary, is_teacher, summarize, verdict
from .records import Records
from .table import TEACHER_OPTION, Entry, Table, Task
from .trainings import Training, TrainingFailed, ensure_trained

__all__ = [
    'Entry', 'Gain', 'Records', 'Summary', 'TEACHER_OPTION', 'Table', 'Task',
    'Training', 'TrainingFailed', 'ensure_trained', 'is_teacher', 'summarize',
    'verdict'
]
