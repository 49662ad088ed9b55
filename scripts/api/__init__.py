"""From a recurrent network to a compressed, bit-exact, synthesizable accelerator."""
