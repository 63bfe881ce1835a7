from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        conversion=['Converted', 'convert'],
        custom_ops=['custom_ops_library'],
        exporting=['ExportReport', 'export_file'],
        testing=['evaluate'],
        writing=['Exported', 'export'],
        postprocess=[
            'FilePredictor', 'NoPostprocess', 'Predictions',
            'compare_predictions', 'WholeNetwork'
        ],
        metadata=['as_texts', 'metadata_of', 'read_metadata'],
        network=['Network'],
        session=['Session'],
        speed=['compare_speed', 'without_quantizers'],
        verify=['Agreement', 'compare']))
