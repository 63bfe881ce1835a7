"""What was measured of a model: records on disk, tables and plots of them."""
from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        measure=['measure_forms'],
        metrics=['describe', 'main_metric'],
        picture=['side_by_side_picture'],
        record=[
            'SCHEMA', 'Form', 'Latency', 'Record', 'add_record', 'read_record',
            'read_records', 'write_record', 'write_records'
        ],
        reports=['render'],
        subjects=['Subject'],
        tables=['table']))
