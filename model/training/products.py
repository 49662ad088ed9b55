"""Products of block-circulant matrices with many vectors, forward and backward, by three equivalent algorithms.

Every algorithm is linear and has the same steps: *lift* the vectors, multiply them by a *prepared* weight (one batched
matrix product), *lower* the result.  The transposed steps give the two gradients.

- ``expanded``: the dense matrix is expanded and multiplied by ordinary vectors.
- ``gather``: the defining vectors are used as they are, the k rotations of every block of the vector are gathered.
- ``fast``: the exact bilinear algorithm of ``chessrnn.model.bilinear``; n instead of k² products per block.

Vectors of ``gather`` and ``fast`` are in *lane order*: (k, N, blocks), entry e of block b of vector n at [e, n, b], so
that lifting and lowering are plain matrix products.  ``expanded`` has one lane: (1, N, size).  Only ``expanded``
accepts sizes that are not multiples of k.
"""

import torch

from chessrnn.model import bilinear, circulant


class Expanded:
    """Product with the expanded, dense matrix.

    Parameters
    ----------
    rows, cols : int
        Size of one matrix.
    block_size : int
        k.

    Notes
    -----
    Every algorithm has the same methods.  ``prepare`` maps the defining vectors (G, P, Q, k) of G matrices to a weight;
    ``prepare_t`` is its transpose.  ``lift`` maps vectors (lanes, N, cols/lanes) → (n, N', cols'); ``lower`` maps
    (n, N', G·rows') → (lanes, N, G·rows/lanes).
    """

    lanes = copies = 1  # copies: lifted vectors for each vector

    def __init__(self, rows: int, cols: int, block_size: int):
        self.rows, self.cols, self.block_size = rows, cols, block_size
        self._indices = torch.from_numpy(circulant.circulant_indices(block_size)).reshape(-1)
        # Expansion as a product with a 0/1 matrix: exact, and much faster than indexing, above all backward.
        self._spread = torch.nn.functional.one_hot(self._indices, block_size).T.float()

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """Expand the defining vectors to the weight (1, cols, G·rows)."""
        g, p, q, k = defining.shape
        if k == 1:
            return defining.view(1, g * p, q).transpose(1, 2)
        blocks = (defining.reshape(-1, k) @ self._spread.to(defining.dtype)).view(g, p, q, k, k)
        matrix = blocks.transpose(2, 3).reshape(g, p * k, q * k)[:, : self.rows, : self.cols]
        return matrix.reshape(1, g * self.rows, self.cols).transpose(1, 2)

    def prepare_t(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Sum the weight's gradient to that of the defining vectors, of ``shape`` (G, P, Q, k)."""
        g, p, q, k = shape
        matrix = grad[0].T.reshape(g, self.rows, self.cols)
        if k == 1:
            return matrix.reshape(shape)
        matrix = torch.nn.functional.pad(matrix, (0, q * k - self.cols, 0, p * k - self.rows))
        blocks = matrix.view(g, p, k, q, k).transpose(2, 3).reshape(-1, k * k)
        return (blocks @ self._spread.to(grad.dtype).T).view(shape)

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the vectors as they are: here lifting and lowering change nothing."""
        return vectors

    lift_t = lower = lift

    def lower_t(self, grad: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the gradient as it is, or copied to ``out``."""
        return grad if out is None else out.copy_(grad)


class Gather:
    """Product of the rotated blocks of the vector with the defining vectors; same interface as :class:`Expanded`."""

    def __init__(self, rows: int, cols: int, block_size: int):
        self.lanes = self.copies = self.block_size = k = block_size
        self._rotation = torch.from_numpy(circulant.circulant_indices(k))
        self._range = torch.arange(k)

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """Reorder the defining vectors to the weight (1, k·Q, G·P)."""
        g, p, q, k = defining.shape
        return defining.permute(3, 2, 0, 1).reshape(1, k * q, g * p)

    def prepare_t(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Reorder the weight's gradient to that of the defining vectors (G, P, Q, k)."""
        g, p, q, k = shape
        return grad.view(k, q, g, p).permute(2, 3, 1, 0)

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """Gather the rotations (1, k·N, k·Q).

        Row r of the output multiplies entry (r - d) mod k by entry d of the defining vector.
        """
        k, n, q = vectors.shape
        return vectors[self._rotation].transpose(1, 2).reshape(1, k * n, k * q)

    def lift_t(self, grad: torch.Tensor) -> torch.Tensor:
        """Sum the gradients of the rotations to that of the vectors (k, N, Q)."""
        k = self.block_size
        rotated = grad.view(k, -1, k, grad.shape[2] // k)
        # Entry c was multiplied in row r by entry (r - c) mod k of the defining vector.
        first, *others = (rotated[r][:, self._rotation[r]].transpose(0, 1) for r in range(k))
        return sum(others, first)

    def lower(self, products: torch.Tensor) -> torch.Tensor:
        """Bring the products (1, k·N, G·P) into lane order (k, N, G·P)."""
        return products.view(self.block_size, -1, products.shape[2])

    def lower_t(self, grad: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Bring the gradient (k, N, G·P) into the shape (1, k·N, G·P) of the product."""
        grad = grad.reshape(1, -1, grad.shape[2])
        return grad if out is None else out.copy_(grad)


class Fast:
    """Product y = S·((M·w) ∘ (M·x)) of every block, n batched products of 1/k of the size; as :class:`Expanded`."""

    copies = 1

    def __init__(self, rows: int, cols: int, block_size: int):
        self.lanes = self.block_size = k = block_size
        self._forms = torch.tensor(bilinear.forward_matrix(k)).double()
        self._inverse = torch.tensor(bilinear.inverse_matrix(k)).double() / (1 << bilinear.inverse_shift(k))
        self._matrices = {}

    def _apply(self, name: str, tensor: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        key = name, tensor.dtype
        if key not in self._matrices:
            forms, inverse = self._forms.to(tensor.dtype), self._inverse.to(tensor.dtype)
            matrix = {"M": forms, "Mt": forms.T, "S": inverse, "St": inverse.T}[name]
            self._matrices[key] = matrix.contiguous()
        matrix = self._matrices[key]
        if out is not None:
            torch.mm(matrix, tensor.reshape(matrix.shape[1], -1), out=out.flatten(1))
            return out
        return (matrix @ tensor.reshape(matrix.shape[1], -1)).view(-1, *tensor.shape[1:])

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """Form the weight M·w (n, Q, G·P)."""
        g, p, q, k = defining.shape
        return self._apply("M", defining.permute(3, 2, 0, 1).reshape(k, q, g * p))

    def prepare_t(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Apply the transpose of M to the weight's gradient: that of the defining vectors (G, P, Q, k)."""
        g, p, q, k = shape
        return self._apply("Mt", grad).view(k, q, g, p).permute(2, 3, 1, 0)

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """Form M·x (n, N, Q)."""
        return self._apply("M", vectors)

    def lift_t(self, grad: torch.Tensor) -> torch.Tensor:
        """Apply the transpose of M to the gradient, (n, N, Q) → (k, N, Q)."""
        return self._apply("Mt", grad)

    def lower(self, products: torch.Tensor) -> torch.Tensor:
        """Apply S to the products, (n, N, G·P) → (k, N, G·P)."""
        return self._apply("S", products)

    def lower_t(self, grad: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Apply the transpose of S, (k, N, G·P) → (n, N, G·P), into ``out`` where it is given."""
        return self._apply("St", grad, out)


class FastDouble(Fast):
    """Product like :class:`Fast`, but in float64 between vectors and results of a narrower type.

    It is needed where the integer sums fit the narrow type and the linear forms of the algorithm do not.
    """

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """Form the weight M·w (n, Q, G·P) in float64."""
        return super().prepare(defining).double()

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """Form M·x (n, N, Q) in float64."""
        self._kind = vectors.dtype
        return super().lift(vectors).double()

    def lower(self, products: torch.Tensor) -> torch.Tensor:
        """Apply S, (n, N, G·P) → (k, N, G·P), and return to the type that was lifted."""
        return super().lower(products).to(self._kind)


ALGORITHMS = {"expanded": Expanded, "gather": Gather, "fast": Fast, "fast64": FastDouble}


def to_lanes(vectors: torch.Tensor, lanes: int) -> torch.Tensor:
    """Bring vectors into lane order: (N, size) → (lanes, N, size/lanes), contiguous."""
    n, size = vectors.shape
    return vectors.reshape(n, size // lanes, lanes).permute(2, 0, 1).contiguous()


def from_lanes(vectors: torch.Tensor) -> torch.Tensor:
    """Bring vectors back from lane order: (lanes, N, blocks) → (N, size)."""
    lanes, n, blocks = vectors.shape
    return vectors.permute(1, 2, 0).reshape(n, blocks * lanes)


# Vectors that are multiplied at a time: few enough that their lifted forms are still in the cache when they are used.
CHUNK = 128


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vectors, defining, algorithm, grad_algorithm):
        ctx.save_for_backward(vectors, defining)
        ctx.algorithm = grad_algorithm
        weight = algorithm.prepare(defining.to(vectors.dtype))
        parts = [algorithm.lower(torch.bmm(algorithm.lift(part), weight)) for part in vectors.split(CHUNK, dim=1)]
        return torch.cat(parts, dim=1)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx, grad):
        vectors, defining = ctx.saved_tensors
        algorithm, dtype = ctx.algorithm, defining.dtype
        weight = algorithm.prepare(defining)
        weight_t = weight.transpose(1, 2).contiguous()
        grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        grad_vectors = torch.empty_like(vectors) if ctx.needs_input_grad[0] else None
        for start in range(0, vectors.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            lowered = algorithm.lower_t(grad[:, part].to(dtype))
            grad_weight.baddbmm_(algorithm.lift(vectors[:, part].to(dtype)).transpose(1, 2), lowered)
            if grad_vectors is not None:
                grad_vectors[:, part] = algorithm.lift_t(torch.bmm(lowered, weight_t))
        return grad_vectors, algorithm.prepare_t(grad_weight, defining.shape), None, None


def product(vectors: torch.Tensor, defining: torch.Tensor, algorithm, grad_algorithm=None) -> torch.Tensor:
    """Multiply G block-circulant matrices by N vectors.

    Parameters
    ----------
    vectors : (lanes, N, cols/lanes)
        Vectors in the type that carries the result.
    defining : (G, P, Q, k)
    algorithm, grad_algorithm
        Instances of one of :data:`ALGORITHMS`, for the result and for the gradients, with the same lanes.

    Returns
    -------
    (lanes, N, G·rows/lanes)
    """
    return _Product.apply(vectors, defining, algorithm, grad_algorithm or algorithm)
