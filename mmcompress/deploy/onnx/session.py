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

    def __call__(self, images: Tensor, **others: Tensor) -> list[Tensor]:
        """Compute the outputs of images, as the written network takes them.

        Args:
            images (Tensor): Preprocessed, shape (1, 3, H, W).
            others (Tensor): Optional inputs, by their names.
        """
        inputs = {self.input_name: images, **others}
        outs = self.session.run(
            None, {
                name: np.ascontiguousarray(value.numpy())
                for name, value in inputs.items()
            })
        return [torch.from_numpy(out) for out in outs]
