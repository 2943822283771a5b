"""What the engine `warp` runs, in Warp's own language: kernels, which are compiled when first used.

`lanes` is how the pixels of a tile are worked on together. `scene` is what is drawn; `raster` finds what is
seen of meshes, `meeting` and `shapes` where rays meet all other geoms; `materials`, `lighting` and
`shadow_maps` are how that looks; and `tracer` makes pictures of it.
"""
