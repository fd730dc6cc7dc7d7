"""Which node of a described cluster holds which actor of a run."""
