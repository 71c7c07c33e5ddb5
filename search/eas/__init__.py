"""The search of EAS (Cai et al., 2018): networks that grow wider and deeper, and its controller."""
