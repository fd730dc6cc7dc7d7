"""Group transforms, one file each: keep a scored group, change it, or drop it with a reason."""
