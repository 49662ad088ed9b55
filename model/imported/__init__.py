"""Import of float recurrent networks: readers of their files, a description, and its evaluation.

Nothing here is compressed or rounded: :mod:`chessrnn.model.imported.float_evaluation` computes what PyTorch and ONNX
compute.
"""
