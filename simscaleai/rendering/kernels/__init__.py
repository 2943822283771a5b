"""Warp kernels of the engine `warp`, compiled when they are first used.

Modules, from the bottom up:

- `tile_types`: SIMD values of the 64 pixels of a tile.
- `render_scene`: the scene on the device; colors, bounding spheres and support functions of geoms.
- `raster`: which mesh face each pixel sees (binned rasterization).
- `ray_shapes`, `intersect`: where rays meet geoms that are not meshes.
- `materials`, `lighting`, `shadow_maps`: color, texture, normals, lights and shadows of what was found.
- `render_tiles`: the kernel that draws images, tile by tile.
"""
