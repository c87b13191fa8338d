"""Ground floor: records, the store, geometry, voxels on disk, errors, the registry. Imports nothing from above."""
