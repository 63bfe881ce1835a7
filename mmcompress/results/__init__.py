"""What was measured of a model: records on disk, tables and plots of them."""
from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(record=[
        'SCHEMA', 'Form', 'Latency', 'Record', 'add_record', 'read_record',
        'read_records', 'write_record', 'write_records'
    ]))
