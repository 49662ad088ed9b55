"""The output layer on chip computes the logits after every step and finds the largest."""
