"""A network of one operator of the domain ``mmcompress``, on onnxruntime."""
import torch

from mmcompress.deploy.onnx.custom_ops import (DOMAIN, VERSION,
                                               custom_ops_library)
from mmcompress.deploy.onnx.packages import needs

CONV = dict(
    strides=[1, 1],
    pads=[0, 0],
    dilations=[1, 1],
    group=1,
    pad_value=0,
    channels_last=0)


def run(kind, dynamic, constants, outputs, threads=1, **attributes):
    """Compute a node.

    Args:
        kind (str): Of the node.
        dynamic (dict): Inputs that come with a call, by name.
        constants (dict): The others, in order behind the first; None where
            one is left out. A name that is among ``dynamic``, too, stands
            for its place.
        outputs (list[torch.dtype]): Types of the outputs.
    """
    onnx, runtime = needs('onnx'), needs('onnxruntime')
    first = next(iter(dynamic))
    names = [first] + [
        name if value is not None or name in dynamic else ''
        for name, value in constants.items()
    ]
    arrays = {k: v.contiguous().numpy() for k, v in dynamic.items()}
    types = {
        torch.float32: onnx.TensorProto.FLOAT,
        torch.uint8: onnx.TensorProto.UINT8,
        torch.int32: onnx.TensorProto.INT32
    }
    outs = [f'out{i}' for i in range(len(outputs))]
    node = onnx.helper.make_node(
        kind, names, outs, domain=DOMAIN, **attributes)
    graph = onnx.helper.make_graph([node], 'graph', [
        onnx.helper.make_tensor_value_info(k, types[v.dtype], v.shape)
        for k, v in dynamic.items()
    ], [
        onnx.helper.make_tensor_value_info(name, types[dtype], None)
        for name, dtype in zip(outs, outputs)
    ], [
        onnx.numpy_helper.from_array(v.contiguous().numpy(), k)
        for k, v in constants.items() if v is not None
    ])
    opsets = [
        onnx.helper.make_opsetid('', 21),
        onnx.helper.make_opsetid(DOMAIN, VERSION)
    ]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = runtime.SessionOptions()
    # errors are raised, too
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(custom_ops_library())
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    return [torch.from_numpy(y) for y in session.run(None, arrays)]
