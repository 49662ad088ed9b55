"""A recurrent network as its file describes it, in floating point: readers, description, evaluation.

Nothing here is compressed or rounded: :mod:`chessrnn.model.imported.float_evaluation` gives what PyTorch and ONNX give.
"""
