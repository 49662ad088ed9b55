"""Named configurations: values, not code paths."""

from pathlib import Path

from chessrnn.model.config import Config, load_config
from chessrnn.model.errors import InvalidValueError

PRESETS = {
    # Smallest network that still has several row groups, several column groups and padding: for tests.
    "tiny": {
        "name": "tiny",
        "network": {"input_size": 10, "hidden_size": 12},
        "compression": {"block_size": 4},
        "architecture": {"tile_rows": 4, "tile_cols": 2},
    },
    # Character language model whose trained weights are in the tree; the exporter chose weight_frac from them.
    "char128": {
        "name": "char128",
        "network": {"input_size": 64, "hidden_size": 128},
        "compression": {"block_size": 8},
        "quantization": {"weight_frac": [5, 4, 5, 5]},
        # A longer path for a cycle less: what its step needs to be without a bubble in so small a network.
        "architecture": {"engine": "fast", "tile_rows": 4, "tile_cols": 4, "pipeline": {"compressor_terms": 8}},
    },
    # Character language model for a small FPGA: trained weights are in the tree, no multiplier in the activations.
    "char64": {
        "name": "char64",
        "network": {"input_size": 32, "hidden_size": 64},
        "compression": {"block_size": 2},
        "quantization": {"weight_bits": 4, "weight_frac": [2, 2, 2, 2], "bias_bits": 16},
        "activation": {"kind": "shift", "segments": 6},
        "architecture": {"engine": "fast", "tile_rows": 2, "tile_cols": 1, "cell_lanes": 1},
    },
    # The case of Wang, Lin, Wang (2017): 512 × 512, 2,048 multiply-accumulates per cycle.
    "lm512": {
        "name": "lm512",
        "network": {"input_size": 512, "hidden_size": 512},
        "compression": {"block_size": 8},
        "architecture": {"engine": "fast", "tile_rows": 8, "tile_cols": 4},
    },
    # The same network for a quarter of a microsecond at 600 MHz: what --latency-us 0.25 chooses.
    "lm512_quarter": {
        "name": "lm512_quarter",
        "network": {"input_size": 512, "hidden_size": 512},
        "compression": {"block_size": 8},
        "architecture": {"engine": "fast", "tile_rows": 7, "tile_cols": 32},
    },
}


def preset(name: str) -> Config:
    """The configuration called ``name``."""
    if name not in PRESETS:
        raise InvalidValueError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return Config.from_dict(PRESETS[name])


def resolve(text: str) -> Config:
    """A preset's name, or the path of a ``.json``/``.toml`` file."""
    if text.endswith((".json", ".toml")) or "/" in text:
        return load_config(Path(text))
    return preset(text)
