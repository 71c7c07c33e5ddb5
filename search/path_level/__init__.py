"""Path-level search (Cai et al., 2018): tree cells that grow from a layer, and their controller."""
