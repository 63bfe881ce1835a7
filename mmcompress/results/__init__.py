"""What was measured of a model: records on disk, tables and plots of them."""
from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        measure=['measure_forms'],
        record=[
            'SCHEMA', 'Form', 'Latency', 'Record', 'read_record',
            'write_record'
        ],
        subjects=['Subject']))
