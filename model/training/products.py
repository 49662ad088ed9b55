"""Products of block-circulant matrices with many vectors, three equal ways, forward and backward.

Every way is linear and has one shape: *lift* the vectors, multiply them by a *prepared* weight (one batched matrix
product), *lower* the result.  Its transposes give the two gradients.

- ``expanded``: the dense matrix is written out; ordinary vectors.
- ``gather``: the defining vectors are used as they are, the k rotations of every block of the vector are gathered.
- ``fast``: the exact bilinear algorithm of ``chessrnn.model.bilinear``; n instead of k² products per block.

Vectors of ``gather`` and ``fast`` are in *lane order*: (k, N, blocks), entry e of block b of vector n at [e, n, b], so
that lifting and lowering are plain matrix products.  ``expanded`` has one lane: (1, N, size).  Sizes that are no
multiple of k exist in ``expanded`` alone.
"""

import torch

from chessrnn.model import bilinear, circulant


class Expanded:
    """Dense matrix product.

    Parameters
    ----------
    rows, cols : int
        Size of one matrix.
    block_size : int
        k.

    Notes
    -----
    Every way has the same methods.  ``prepare``: defining vectors (G, P, Q, k) of G matrices → weight;
    ``prepare_t`` its transpose.  ``lift``: vectors (lanes, N, cols/lanes) → (n, N', cols'); ``lower``: (n, N', G·rows')
    → (lanes, N, G·rows/lanes).
    """

    lanes = copies = 1  # lifted vectors for each vector

    def __init__(self, rows: int, cols: int, block_size: int):
        self.rows, self.cols, self.block_size = rows, cols, block_size
        self._indices = torch.from_numpy(circulant.circulant_indices(block_size)).reshape(-1)
        # Expansion as a product with a 0/1 matrix: exact, and much faster than indexing, above all backward.
        self._spread = torch.nn.functional.one_hot(self._indices, block_size).T.float()

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """(1, cols, G·rows)."""
        g, p, q, k = defining.shape
        if k == 1:
            return defining.view(1, g * p, q).transpose(1, 2)
        blocks = (defining.reshape(-1, k) @ self._spread.to(defining.dtype)).view(g, p, q, k, k)
        matrix = blocks.transpose(2, 3).reshape(g, p * k, q * k)[:, : self.rows, : self.cols]
        return matrix.reshape(1, g * self.rows, self.cols).transpose(1, 2)

    def prepare_t(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Gradient of the defining vectors, of ``shape`` (G, P, Q, k)."""
        g, p, q, k = shape
        matrix = grad[0].T.reshape(g, self.rows, self.cols)
        if k == 1:
            return matrix.reshape(shape)
        matrix = torch.nn.functional.pad(matrix, (0, q * k - self.cols, 0, p * k - self.rows))
        blocks = matrix.view(g, p, k, q, k).transpose(2, 3).reshape(-1, k * k)
        return (blocks @ self._spread.to(grad.dtype).T).view(shape)

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """As it is."""
        return vectors

    lift_t = lower = lift

    def lower_t(self, grad: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """As it is, or copied to ``out``."""
        return grad if out is None else out.copy_(grad)


class Gather:
    """Rotations of the vector's blocks times the defining vectors.  As :class:`Expanded`."""

    def __init__(self, rows: int, cols: int, block_size: int):
        self.lanes = self.copies = self.block_size = k = block_size
        self._rotation = torch.from_numpy(circulant.circulant_indices(k))
        self._range = torch.arange(k)

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """(1, k·Q, G·P)."""
        g, p, q, k = defining.shape
        return defining.permute(3, 2, 0, 1).reshape(1, k * q, g * p)

    def prepare_t(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Gradient of the defining vectors."""
        g, p, q, k = shape
        return grad.view(k, q, g, p).permute(2, 3, 1, 0)

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """(1, k·N, k·Q): row r of output needs entry (r - d) mod k beside entry d of the defining vector."""
        k, n, q = vectors.shape
        return vectors[self._rotation].transpose(1, 2).reshape(1, k * n, k * q)

    def lift_t(self, grad: torch.Tensor) -> torch.Tensor:
        """(k, N, Q)."""
        k = self.block_size
        rotated = grad.view(k, -1, k, grad.shape[2] // k)
        # Entry c was used in row r beside entry (r - c) mod k.
        return sum(rotated[r][:, self._rotation[r]].transpose(0, 1) for r in range(k))

    def lower(self, products: torch.Tensor) -> torch.Tensor:
        """(k, N, G·P)."""
        return products.view(self.block_size, -1, products.shape[2])

    def lower_t(self, grad: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """(1, k·N, G·P)."""
        grad = grad.reshape(1, -1, grad.shape[2])
        return grad if out is None else out.copy_(grad)


class Fast:
    """y = S·((M·w) ∘ (M·x)) of every block: n batched products of 1/k of the size.  As :class:`Expanded`."""

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
        """(n, Q, G·P)."""
        g, p, q, k = defining.shape
        return self._apply("M", defining.permute(3, 2, 0, 1).reshape(k, q, g * p))

    def prepare_t(self, grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Gradient of the defining vectors."""
        g, p, q, k = shape
        return self._apply("Mt", grad).view(k, q, g, p).permute(2, 3, 1, 0)

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, N, Q)."""
        return self._apply("M", vectors)

    def lift_t(self, grad: torch.Tensor) -> torch.Tensor:
        """(k, N, Q)."""
        return self._apply("Mt", grad)

    def lower(self, products: torch.Tensor) -> torch.Tensor:
        """(k, N, G·P)."""
        return self._apply("S", products)

    def lower_t(self, grad: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """(n, N, G·P)."""
        return self._apply("St", grad, out)


class FastDouble(Fast):
    """:class:`Fast` with the products in float64 between vectors and results of a narrower type.

    For integer sums that fit the narrow type while the forms of the algorithm do not.
    """

    def prepare(self, defining: torch.Tensor) -> torch.Tensor:
        """(n, Q, G·P), float64."""
        return super().prepare(defining).double()

    def lift(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, N, Q), float64."""
        self._kind = vectors.dtype
        return super().lift(vectors).double()

    def lower(self, products: torch.Tensor) -> torch.Tensor:
        """(k, N, G·P) in the type that was lifted."""
        return super().lower(products).to(self._kind)


WAYS = {"expanded": Expanded, "gather": Gather, "fast": Fast, "fast64": FastDouble}


def to_lanes(vectors: torch.Tensor, lanes: int) -> torch.Tensor:
    """(N, size) → (lanes, N, size/lanes), contiguous."""
    n, size = vectors.shape
    return vectors.reshape(n, size // lanes, lanes).permute(2, 0, 1).contiguous()


def from_lanes(vectors: torch.Tensor) -> torch.Tensor:
    """(lanes, N, blocks) → (N, size)."""
    lanes, n, blocks = vectors.shape
    return vectors.permute(1, 2, 0).reshape(n, blocks * lanes)


# Vectors that are worked on together: their forms should still be in the cache when they are used.
CHUNK = 128


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vectors, defining, way, way_back):
        ctx.save_for_backward(vectors, defining)
        ctx.way = way_back
        weight = way.prepare(defining.to(vectors.dtype))
        parts = [way.lower(torch.bmm(way.lift(part), weight)) for part in vectors.split(CHUNK, dim=1)]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx, grad):
        vectors, defining = ctx.saved_tensors
        way, dtype = ctx.way, defining.dtype
        weight = way.prepare(defining)
        weight_t = weight.transpose(1, 2).contiguous()
        grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        grad_vectors = torch.empty_like(vectors) if ctx.needs_input_grad[0] else None
        for start in range(0, vectors.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            lowered = way.lower_t(grad[:, part].to(dtype))
            grad_weight.baddbmm_(way.lift(vectors[:, part].to(dtype)).transpose(1, 2), lowered)
            if grad_vectors is not None:
                grad_vectors[:, part] = way.lift_t(torch.bmm(lowered, weight_t))
        return grad_vectors, way.prepare_t(grad_weight, defining.shape), None, None


def product(vectors: torch.Tensor, defining: torch.Tensor, way, way_back=None) -> torch.Tensor:
    """G block-circulant matrices times N vectors.

    Parameters
    ----------
    vectors : (lanes, N, cols/lanes)
        In the type that carries the result.
    defining : (G, P, Q, k)
    way, way_back
        Instances of one of :data:`WAYS`, for the result and for the gradients, with the same lanes.

    Returns
    -------
    (lanes, N, G·rows/lanes)
    """
    return _Product.apply(vectors, defining, way, way_back or way)
