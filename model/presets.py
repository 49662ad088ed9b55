"""The named configurations that the project ships."""

from pathlib import Path

from chessrnn.model.config import Config, load_config
from chessrnn.model.errors import InvalidFileError, InvalidValueError, shown

# The file of a build folder that holds its configuration.
BUILD_CONFIG = "config.json"
PRESETS = {
    # The smallest network that still has several row groups, several column groups and padding, for tests.
    "tiny": {
        "name": "tiny",
        "network": {"input_size": 10, "hidden_size": 12},
        "compression": {"block_size": 4},
        "architecture": {"tile_rows": 4, "tile_cols": 2},
    },
    # A character language model whose trained weights are part of the package; the export chose weight_frac.
    "char128": {
        "name": "char128",
        "network": {"input_size": 64, "hidden_size": 128},
        "compression": {"block_size": 8},
        "quantization": {"weight_frac": [5, 4, 5, 5]},
        # More terms per compressor save a cycle of latency for a longer path: this network is so small that its steps
        # would otherwise have a bubble.
        "architecture": {"engine": "fast", "tile_rows": 4, "tile_cols": 4, "pipeline": {"compressor_terms": 8}},
    },
    # A character language model for a small FPGA, with trained weights and without multipliers in the activations.
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
    # The same network with a step of a quarter of a microsecond at 600 MHz, as chosen by --latency-us 0.25.
    "lm512_quarter": {
        "name": "lm512_quarter",
        "network": {"input_size": 512, "hidden_size": 512},
        "compression": {"block_size": 8},
        "architecture": {"engine": "fast", "tile_rows": 7, "tile_cols": 32},
    },
}


def preset(name: str) -> Config:
    """Configuration of the preset ``name``."""
    if name not in PRESETS:
        raise InvalidValueError(f"preset must be one of {', '.join(PRESETS)}, not {shown(name)}")
    return Config.from_dict(PRESETS[name])


def resolve(text: str) -> Config:
    """Configuration of a preset, of a ``.json``/``.toml`` file, or of a build folder, given by its name or path."""
    if text not in PRESETS and (Path(text) / BUILD_CONFIG).is_file():
        return load_config(Path(text) / BUILD_CONFIG)
    if text and text not in PRESETS and Path(text).is_dir():
        raise InvalidFileError(f"{text} must be a build folder, which holds {BUILD_CONFIG}, or a configuration file")
    if text.endswith((".json", ".toml")) or "/" in text:
        return load_config(Path(text))
    return preset(text)
