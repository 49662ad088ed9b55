"""A whole model whose recurrent layers compute the integers of the accelerator."""
