"""The paper: Algorithm 1, selection, advantages, loss and the types that travel between the rooms."""
