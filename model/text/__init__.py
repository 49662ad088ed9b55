"""Character language models: the training text, and the layers around the accelerator."""
