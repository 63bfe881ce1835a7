"""Run a written network on onnxruntime."""
import numpy as np
import torch
from torch import Tensor

from .custom_ops import custom_ops_library, uses_custom_ops
from .packages import needs


class Session:
    """A network on onnxruntime's CPU provider.

    Args:
        model (bytes | str): The file, or what is in it.
        optimized (str | None): Where to write the graph as onnxruntime
            computes it.
        threads (int): How many.
    """

    def __init__(self,
                 model: bytes | str,
                 optimized: str | None = None,
                 threads: int = 1) -> None:
        runtime = needs('onnxruntime')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # it warns of shapes that are not known
        options.log_severity_level = 3
        if uses_custom_ops(model):
            options.register_custom_ops_library(custom_ops_library())
        if optimized is not None:
            options.optimized_model_filepath = optimized
        self.session = runtime.InferenceSession(
            model, options, providers=['CPUExecutionProvider'])
        self.input_name = self.session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Compute the outputs of preprocessed images, shape (1, 3, H, W)."""
        outs = self.session.run(
            None, {self.input_name: np.ascontiguousarray(images.numpy())})
        return [torch.from_numpy(out) for out in outs]
