"""Advantage estimators, one file each: a scored group to base advantages."""
