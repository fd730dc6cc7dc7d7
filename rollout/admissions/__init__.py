"""Admissions, one file each: how many groups may start beyond those that steps need."""
