"""Implementation of `simscaleai.tools.visualize`, which has the public names."""
