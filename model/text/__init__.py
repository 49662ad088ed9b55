"""Character language models: the text, and the network around the accelerator."""
