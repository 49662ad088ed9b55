"""Training of one network by several processes, as ``torchrun`` starts them."""

import os

from torch import distributed


def start_processes() -> None:
    """Join the other processes when there are any; gloo averages the gradients because every machine has it."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")
