from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        convert=['Converted', 'convert'],
        export=['Exported', 'export'],
        integers=['Found', 'find_layers'],
        metadata=['read_metadata'],
        network=['Network', 'network_of'],
        session=['Session', 'on_onnxruntime'],
        verify=['Agreement', 'compare']))
