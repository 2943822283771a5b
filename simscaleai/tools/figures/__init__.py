"""What `simscaleai.tools.visualize` draws with; the names to use are there."""
