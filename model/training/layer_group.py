"""The trainable layers of one network, whose number formats one configuration holds."""

from collections.abc import Sequence

import torch

from chessrnn.model.config import Config
from chessrnn.model.training.layers import QuantLayer
from chessrnn.model.weights import layer_configs


class LayerGroup:
    """Layers of one network, to which its configuration is distributed and whose scales return to it.

    Parameters
    ----------
    config : Config
        Configuration of the network.
    layers : sequence of QuantLayer
        With two directions, forward then reverse for every layer.

    Notes
    -----
    The group is no module: the layers belong to whatever made them, and are copied with it.
    """

    def __init__(self, config: Config, layers: Sequence[QuantLayer]):
        self.layers = layers
        self._config = config

    @property
    def config(self) -> Config:
        """Configuration of the network; setting it sets that of every layer."""
        return self._config

    @config.setter
    def config(self, config: Config) -> None:
        self._config = config
        for layer, own in zip(self.layers, layer_configs(config), strict=True):
            layer.config = own

    @property
    def stage(self) -> str:
        """Stage of every layer, one of :data:`.layers.STAGES`."""
        return self.layers[0].stage

    @stage.setter
    def stage(self, stage: str) -> None:
        for layer in self.layers:
            layer.stage = stage

    def learn_scales(self, keeps_exponents: bool = False, trains: bool = True) -> None:
        """Make the scales of every layer a parameter: see :meth:`.layers.QuantLayer.learn_scales`."""
        for layer in self.layers:
            layer.learn_scales(keeps_exponents, trains)

    def settle(self) -> None:
        """Bring normalised weights back to the length of their scales: see :meth:`.layers.QuantLayer.settle`."""
        for layer in self.layers:
            layer.settle()

    def adopt_scales(self) -> None:
        """Round the scales of every layer to those of the accelerator, and store their exponents."""
        directions = self._config.directions
        for place in range(0, len(self.layers), directions):
            both = [layer for layer in self.layers[place : place + directions] if layer.log2_scale is not None]
            if both:
                _adopt_together(both)
        fracs = [list(layer.config.weight_fracs) for layer in self.layers[::directions]]
        if fracs != [list(row) for row in self._config.layer_weight_fracs]:
            self._config = self._config.replace({"quantization.weight_frac": fracs})

    def clamp_parameters(self) -> None:
        """Adopt the scales, and bring every weight into the range of its format."""
        self.adopt_scales()
        for layer in self.layers:
            layer.clamp_parameters()


@torch.no_grad()
def _adopt_together(directions: Sequence[QuantLayer]) -> None:
    """Adopt the scales of both directions of a layer, which share their exponents."""
    scales: list[torch.Tensor] = [layer.log2_scale for layer in directions if layer.log2_scale is not None]
    if not directions[0].config.has_row_scales:
        mean = torch.stack(scales).mean(dim=0)
        for scale in scales:
            scale.copy_(mean)
    for layer in directions:
        layer.adopt_scales()
    fracs = [min(pair) for pair in zip(*(layer.config.weight_fracs for layer in directions), strict=True)]
    for layer in directions:
        if fracs != list(layer.config.weight_fracs):
            layer.config = layer.config.replace({"quantization.weight_frac": fracs})
