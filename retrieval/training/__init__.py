"""Training on frozen tower outputs: data, losses, loops."""
