"""The output layer on chip: logits after every step, and the largest of them."""
